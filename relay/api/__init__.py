"""The HTTP side: health, metrics, the event catalogue."""
