"""The catalogue: every type of event that endpoints may ask for, of orders, commands and connections."""

from typing import Final

from relay.domain.events import EVENT_TYPES
from relay.domain.notices import CONNECTION_TYPES
from relay.domain.results import RESULT_TYPES

TYPES: Final = (*EVENT_TYPES, *RESULT_TYPES, *CONNECTION_TYPES)
