"""PostgreSQL: the only state."""
