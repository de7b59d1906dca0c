"""The options of endpoints as people give them: some by name, checked together with those that stay."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from relay.control import given
from relay.domain.endpoints import EndpointOptions
from relay.domain.errors import UserError


def options_given(
    values: Mapping[str, Any], before: EndpointOptions | None = None, defaults: Iterable[str] = ()
) -> EndpointOptions:
    """The options with `values` in the place of those `before`, and those named in `defaults` as they were at first.

    Raises:
        UserError: names every option that is unknown or wrong, and what belongs there.
    """
    kept = before.model_dump(exclude_defaults=True) if before else {}
    known = EndpointOptions.model_fields
    if unknown := [name for name in defaults if name not in known]:
        raise UserError(f"there is no option {', '.join(unknown)}: the known ones are {', '.join(known)}")
    together = {**{name: value for name, value in kept.items() if name not in set(defaults)}, **values}
    try:
        options = EndpointOptions.model_validate(together)
    except ValidationError as error:
        raise UserError(given.told("options of an endpoint", EndpointOptions, error)) from None
    return options.model_copy(update={"where": given.where_given(options.where)})
