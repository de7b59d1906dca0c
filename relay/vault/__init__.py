"""Sealed credentials: envelope encryption with a data key per customer."""
