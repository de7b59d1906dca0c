"""Simulated ERPs that behave as badly as the real ones, a verifying receiver, and the demo itself."""
