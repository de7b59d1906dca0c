"""What a person says about one RM: where it is, which movements are purchase orders, and how they are read."""

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic import StringConstraints as Text

from relay.domain.hours import Zone

GROUP = "1.1"
"""The group of movement types that purchase orders belong to."""


def _without_login(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("give the address up to its base path only; user and password are credentials")
    return url


def _listed(value: Any) -> Any:
    """Codes with commas between them, as people type them."""
    return [code.strip() for code in value.split(",")] if isinstance(value, str) else value


def _of_the_group(codes: Iterable[str]) -> frozenset[str]:
    found = frozenset(codes)
    for code in sorted(found):
        if not code.startswith(f"{GROUP}."):
            raise ValueError(f"{code} is no movement type of group {GROUP} (purchase orders): write it like 1.1.10")
    return found


BaseUrl = Annotated[AnyHttpUrl, AfterValidator(_without_login)]
TypeCode = Annotated[str, Text(pattern=r"^\d+(\.[0-9A-Za-z]+)+$", max_length=10)]
TypeCodes = Annotated[
    frozenset[TypeCode], BeforeValidator(_listed), AfterValidator(_of_the_group), Field(min_length=1, max_length=50)
]


class RmSettings(BaseModel):
    """Settings of an RM connection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: BaseUrl = Field(description="Address of RM's API host, without /api: https://rm.example:8051")
    company: int = Field(ge=1, description="Company (coligada, CODCOLIGADA) whose orders are read: 1")
    purchase_types: TypeCodes = Field(
        description="Movement types (CODTMV) that are purchase orders, with commas between them: 1.1.10,1.1.11"
    )
    login: Literal["token", "basic"] = Field(default="token", description="How relay logs in.")
    time_zone: Zone = Field(
        default="America/Sao_Paulo", description="Time zone of RM's server: its times are local and name none."
    )
    stamps: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether RM lists movements by RECMODIFIEDON. Without it every poll reads all movements.",
    )
    overlap: dt.timedelta = Field(
        default=dt.timedelta(minutes=5),
        ge=dt.timedelta(0),
        description="How far before the last change each poll begins, for transactions that commit late.",
    )
    filter: Annotated[str, Text(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="OData filter for the list of movements, where RM takes one: MovementTypeCode eq '1.1.10'",
    )
    page_size: int = Field(default=100, ge=2, le=1000, description="Movements per call.")
    create_type: TypeCode | None = Field(
        default=None, description="Movement type (CODTMV) of new orders, when purchase_types names several: 1.1.10"
    )
    reference_field: Literal["FreeField1", "FreeField2", "FreeField3", "OrderNumber"] | None = Field(
        default="FreeField3", description="Where a new order keeps its own key, by which it is found again."
    )
    vendor_company: int = Field(
        default=0, ge=0, description="Company (CODCOLCFO) of vendors that a command names by their code."
    )
    integration: Annotated[str, Text(pattern=r"^[A-Z]$")] = Field(
        default="T", description="What new orders carry as AplicationIntegration: the system they are made in."
    )
    keep_raw: bool = Field(default=False, description="Keep RM's record in the order's `raw`.")

    @property
    def type_of_new(self) -> str | None:
        """The movement type of new orders; None when a command must say it."""
        only = next(iter(self.purchase_types)) if len(self.purchase_types) == 1 else None
        return self.create_type or only

    @model_validator(mode="after")
    def _creates_an_order(self) -> Self:
        if self.create_type and self.create_type not in self.purchase_types:
            raise ValueError(f"create_type {self.create_type} is none of purchase_types")
        return self


class RmCredentials(BaseModel):
    """The RM user that relay logs in as."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    username: Annotated[str, Text(min_length=1, max_length=100)]
    password: SecretStr = Field(min_length=1)
