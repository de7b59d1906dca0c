"""One room per file, one verb per room; stages know the domain and the ports only."""
