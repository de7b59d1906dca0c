"""Time and chance, which stages are given."""

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], datetime]
"""The time now, in UTC."""
Dice = Callable[[], float]
"""Chance, from 0 to 1."""
