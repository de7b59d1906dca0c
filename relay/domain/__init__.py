"""Pure decisions and values: no I/O, clock, randomness or environment."""
