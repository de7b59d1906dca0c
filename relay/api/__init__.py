"""The HTTP side: health, metrics, the event catalogue, public keys, and the events that receivers pull."""
