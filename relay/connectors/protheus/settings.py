"""What a person says about one Protheus: where it is, how it is read and written; what codes mean is its mapping."""

import datetime as dt
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from relay.connectors.protheus.wrapper import Wrapper
from relay.domain.commands import CommandType

Column = Annotated[
    str,
    StringConstraints(to_upper=True, pattern=r"^(C7_[A-Z0-9_]{1,12}|[A-Z]_[A-Z_]{4,12}_|(A2|B1|E4)_MSBLQL)$"),
]


def _without_login(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("give the address up to its base path only; user and password are credentials")
    return url


def _no_blank_after_comma(tenant: str) -> str:
    company, comma, branch = tenant.partition(",")
    if not company.strip() or not comma or branch != branch.lstrip():
        raise ValueError("write it as COMPANY,BRANCH with no blank after the comma, for example T1,D MG 01")
    return tenant


BaseUrl = Annotated[AnyHttpUrl, AfterValidator(_without_login)]
Tenant = Annotated[str, StringConstraints(min_length=2, max_length=40), AfterValidator(_no_blank_after_comma)]


class ProtheusSettings(BaseModel):
    """Settings of a Protheus connection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: BaseUrl = Field(description="REST address up to and with its base path: https://erp.example:8080/rest")
    tenant: Tenant = Field(description="Company and branch of the tenantId header: T1,D MG 01")
    module: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = Field(
        default=None, description="x-erp-module header, three letters without SIGA, when the ERP asks for it: COM"
    )
    login: Literal["oauth2", "basic"] = Field(default="oauth2", description="How relay logs in.")
    all_branches: bool = Field(default=False, description="Read the orders of every branch, not only the tenant's.")
    issued_since: dt.date | None = Field(default=None, description="Leave orders issued before this day alone.")
    stamps: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether SC7 has S_T_A_M_P_ (UseRowStamp=1). Without it every poll reads all orders.",
    )
    overlap: dt.timedelta = Field(
        default=dt.timedelta(minutes=5),
        ge=dt.timedelta(0),
        description="How far before the last stamp each poll begins, for transactions that commit late.",
    )
    stamp_literal: str = Field(
        default="'{}'",
        pattern=r"^[^{}]*\{\}[^{}]*$",
        description="How a time is written in `where`; for Oracle TO_TIMESTAMP('{}','YYYY-MM-DD\"T\"HH24:MI:SS.FF3').",
    )
    page_size: int = Field(default=200, ge=2, le=5000, description="Rows per call.")
    absent_columns: frozenset[Column] = Field(
        default=frozenset(), description="Columns that this installation does not have and must not be asked for."
    )
    writing: Wrapper | None = Field(
        default=None, description="The customer's endpoint around MATA120, or the EAI: without it nothing is written."
    )
    keep_raw: bool = Field(default=False, description="Keep the ERP's rows in the order's `raw`.")

    @model_validator(mode="after")
    def _knows_its_branch(self) -> Self:
        creates = self.writing is not None and self.writing.route(CommandType.CREATE) is not None
        if creates and not self.branch:
            raise ValueError("tenant: new orders need its branch, as in T1,D MG 01")
        return self

    @property
    def company(self) -> str:
        """The company part of the tenant."""
        return self.tenant.partition(",")[0]

    @property
    def branch(self) -> str:
        """The branch part of the tenant; blanks inside it matter."""
        return self.tenant.partition(",")[2]


class ProtheusCredentials(BaseModel):
    """The ERP user that relay logs in as."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    username: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    password: SecretStr = Field(min_length=1)
