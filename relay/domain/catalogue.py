"""The catalogue: every type of event that endpoints may ask for, changes and results of commands alike."""

from typing import Final

from relay.domain.events import EVENT_TYPES
from relay.domain.results import RESULT_TYPES

TYPES: Final = (*EVENT_TYPES, *RESULT_TYPES)
