"""Views of mappings: where fields come from, what a mapping would do to live orders, its versions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import Field

from relay.control.connection_views import RejectedView
from relay.control.views import View
from relay.domain.capabilities import CommandCapability, FieldCapability, SourceField
from relay.domain.mapping import MappingOverrides, Retold


class SampleView(View):
    """What live orders hold beyond what is mapped."""

    orders: int
    unmapped: tuple[SourceField, ...] = Field(description="Fields that no rule reads, with some of their values.")
    missing: tuple[str, ...] = Field(description="Columns of the mapping that the ERP does not have, or hides.")
    notices: tuple[str, ...] = Field(description="Codes that are not mapped, and what else people should know.")


class MappingView(View):
    """Where each field of a connection's orders comes from."""

    connection_id: str
    connector: str
    version: int = Field(description="Of the overrides; 0: there are none.")
    overrides: MappingOverrides
    fields: tuple[FieldCapability, ...]
    commands: tuple[CommandCapability, ...] = Field((), description="What can be written; none: nothing.")
    custom_fields: bool = Field(False, description="Whether commands may name the system's own fields.")
    sample: SampleView | None = Field(description="Null: the ERP was not asked.")


class Example(View):
    """One value under the mapping that stands and under the one that was given."""

    order: str
    before: str | None
    after: str | None


class FieldChanged(View):
    """One field that would be another in some orders of the sample."""

    path: str
    orders: int
    values: int = Field(description="How many values differ; a field of lines may have several in an order.")
    examples: tuple[Example, ...]


class MappingChecked(View):
    """What a mapping would do to live orders. Nothing was stored."""

    works: bool = Field(description="No order is lost by it, and the ERP has all its columns.")
    problems: tuple[str, ...]
    orders: int = Field(description="Orders that it was tried on.")
    changed: tuple[FieldChanged, ...]
    rejected: tuple[RejectedView, ...]
    missing: tuple[str, ...] = Field(description="Columns that the ERP does not have, or hides from this user.")
    notices: tuple[str, ...] = Field(description="Codes that are still not mapped, and what else people should know.")


class MappingVersionView(View):
    """One version of a connection's overrides."""

    number: int
    overrides: MappingOverrides
    retold: Retold
    reverts_to: int | None
    made_by: str
    made_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of the store."""
        return cls.model_validate(row)


class MappingSaved(View):
    """A mapping that was given. `saved` is false when it is the one that stood already."""

    saved: bool
    version: int
    checked: MappingChecked | None = Field(description="Null: it was not tried, because the ERP could not be asked.")
    sync_id: str | None = Field(description="The sync that reads all orders again.")
