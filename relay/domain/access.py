"""Access to an endpoint: what relay shows a receiver beside the signature, and whom it takes for the receiver.

    given(what people wrote) -> Access(headers, auth, certificate, authority) -> written -> sealed -> read -> Access

The one thing to know: nearly everything here is a secret. Values are hidden in every repr, and what is refused is named
by its place and never repeated.
"""

import base64
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from relay.domain.certificates import authorities, identity
from relay.domain.errors import UserError

MOST_HEADERS, LONGEST_NAME, LONGEST_VALUE, MOST_BYTES = 32, 128, 4096, 16 * 1024
LONGEST_PEM = 64 * 1024

RESERVED = frozenset(
    {
        *("host", "content-length", "content-type", "content-encoding", "transfer-encoding", "accept-encoding"),
        *("connection", "keep-alive", "te", "trailer", "upgrade", "expect", "http2-settings"),
    }
)
"""Headers that are relay's, or that say where a request ends: with two opinions on that, two requests become one."""
RESERVED_PREFIXES = ("webhook-", "relay-", "proxy-")

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")  # RFC 9110 section 5.5, ASCII only
_VISIBLE = re.compile(r"[!-~]+")
_SCOPE = re.compile(r"(?:[!#-\[\]-~]+(?: [!#-\[\]-~]+)*)?")  # RFC 6749 section 3.3
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class NoAuth(_Part):
    """The signature is enough."""

    kind: Literal["none"] = "none"


class Basic(_Part):
    """A user name and a password, RFC 7617, in UTF-8."""

    kind: Literal["basic"]
    username: str = Field(min_length=1, max_length=256)
    password: SecretStr = Field(max_length=1024)

    @field_validator("username")
    @classmethod
    def _speakable(cls, value: str) -> str:
        if ":" in value or _CONTROL.search(value):
            raise ValueError("must have no colon and no control characters")
        return value

    @field_validator("password")
    @classmethod
    def _printable(cls, value: SecretStr) -> SecretStr:
        if _CONTROL.search(value.get_secret_value()):
            raise ValueError("must have no control characters")
        return value


class Bearer(_Part):
    """A token that stays, RFC 6750."""

    kind: Literal["bearer"]
    token: SecretStr = Field(min_length=1, max_length=LONGEST_VALUE)

    @field_validator("token")
    @classmethod
    def _visible(cls, value: SecretStr) -> SecretStr:
        if not _VISIBLE.fullmatch(value.get_secret_value()):
            raise ValueError("must be printable ASCII without blanks, and without the word Bearer before it")
        return value


class ClientCredentials(_Part):
    """A token that ends, fetched with the client's own credentials, RFC 6749 section 4.4."""

    kind: Literal["oauth2"]
    token_url: str = Field(max_length=2048)
    client_id: str = Field(min_length=1, max_length=512)
    client_secret: SecretStr = Field(min_length=1, max_length=LONGEST_VALUE)
    scope: str = Field("", max_length=1024, description="Scopes, separated by one blank.")
    audience: str = Field("", max_length=1024, description="What some token servers ask for to name the receiver.")
    authenticates: Literal["basic", "body"] = Field(
        "basic", description="Where client_id and client_secret go: the Authorization header, or the form."
    )

    @field_validator("token_url")
    @classmethod
    def _web(cls, value: str) -> str:
        if not value.lower().startswith(("https://", "http://")):
            raise ValueError("must begin with https://")
        return value

    @field_validator("scope")
    @classmethod
    def _scopes(cls, value: str) -> str:
        if not _SCOPE.fullmatch(value):
            raise ValueError("must be printable ASCII words, separated by one blank, without quotes and backslashes")
        return value


Auth: TypeAlias = Annotated[NoAuth | Basic | Bearer | ClientCredentials, Field(discriminator="kind")]


class ClientCertificate(_Part):
    """What relay proves in TLS that it is (mTLS): PEM, its own certificate first, and the key to it."""

    chain: str = Field(max_length=LONGEST_PEM)
    key: SecretStr = Field(max_length=LONGEST_PEM)

    @model_validator(mode="after")
    def _together(self) -> "ClientCertificate":
        identity(self.chain, self.key.get_secret_value())
        return self


class Access(_Part):
    """Everything that one endpoint asks for; the default is nothing."""

    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Sent with each webhook.")
    auth: Auth = NoAuth()
    certificate: ClientCertificate | None = None
    authority: str = Field("", max_length=LONGEST_PEM, description="PEM: trusted beside the public authorities.")

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if len(value) > MOST_HEADERS:
            raise ValueError(f"there are {len(value)}: at most {MOST_HEADERS} are allowed")
        for number, (name, secret) in enumerate(value.items(), 1):
            _check_header(f"header {number}", name, secret.get_secret_value())
        named = {name.lower(): secret for name, secret in value.items()}
        if len(named) < len(value):
            raise ValueError("one is there twice: capital letters make no difference")
        if sum(len(name) + len(secret.get_secret_value()) for name, secret in named.items()) > MOST_BYTES:
            raise ValueError(f"together they have more than {MOST_BYTES} characters")
        return named

    @field_validator("authority")
    @classmethod
    def _certificates(cls, value: str) -> str:
        authorities(value)
        return value

    @model_validator(mode="after")
    def _one_authorization(self) -> "Access":
        if "authorization" in self.headers and self.auth.kind != "none":
            raise ValueError(f"the header authorization is set by {self.auth.kind} auth: give one of the two")
        return self

    def sent_headers(self) -> dict[str, str]:
        """The headers that are the same with each webhook, secrets and all."""
        headers = {name: secret.get_secret_value() for name, secret in self.headers.items()}
        if isinstance(self.auth, Basic):
            login = f"{self.auth.username}:{self.auth.password.get_secret_value()}"
            headers["authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        if isinstance(self.auth, Bearer):
            headers["authorization"] = f"Bearer {self.auth.token.get_secret_value()}"
        return headers

    def identity(self, password: bytes = b"") -> bytes | None:
        """The client certificate and its key, encrypted if there is a password, as one PEM text, or None."""
        given = self.certificate
        return identity(given.chain, given.key.get_secret_value(), password) if given else None

    def authorities(self) -> tuple[bytes, ...]:
        """The certificates, in DER, that are trusted beside the public ones."""
        return authorities(self.authority)

    def tls(self) -> "Access":
        """The part of it that holds for the token server, too: certificate and authority."""
        return Access(certificate=self.certificate, authority=self.authority)


def given(values: Mapping[str, Any]) -> Access:
    """The access that a person wrote down.

    Raises:
        UserError: names each part that cannot be used and why, and repeats nothing of it.
    """
    try:
        return Access.model_validate(values)
    except ValidationError as error:
        wrong = [f"  {_place(each['loc'])}: {_words(each['type'], each['msg'])}" for each in error.errors()]
        raise UserError("the access to an endpoint cannot be used:\n" + "\n".join(wrong)) from None


def written(access: Access) -> bytes:
    """The access as bytes, to be sealed at once: its secrets are in it. Nothing at all is no bytes."""
    shown = access.model_dump(exclude_defaults=True)
    return json.dumps(_revealed(shown), separators=(",", ":")).encode() if shown else b""


def read(opened: bytes) -> Access:
    """What `written` wrote. Raises UserError when it is something else."""
    if not opened:
        return Access()
    try:
        return Access.model_validate_json(opened)
    except ValidationError:
        raise UserError("the access stored with this endpoint cannot be read: set it again") from None


def _check_header(place: str, name: str, value: str) -> None:
    lower = name.lower()
    if not _TOKEN.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(f"{place} has a name that is none: letters, digits and hyphens, at most {LONGEST_NAME}")
    if lower in RESERVED:
        raise ValueError(f"{place} is {lower}, which relay sets itself")
    if prefix := next((each for each in RESERVED_PREFIXES if lower.startswith(each)), None):
        raise ValueError(f"{place} begins with {prefix}: these are relay's own")
    if not _VALUE.fullmatch(value) or len(value) > LONGEST_VALUE:
        raise ValueError(
            f"{place} has a value that cannot be sent: printable ASCII, no line breaks, no blanks around it, "
            f"1 to {LONGEST_VALUE} characters"
        )


def _place(location: tuple[int | str, ...]) -> str:
    # What follows `headers` is a header's name, or what somebody took for one.
    return ".".join(str(each) for each in (location[:1] if location[:1] == ("headers",) else location)) or "access"


def _words(kind: str, message: str) -> str:
    if kind.startswith("union_tag"):  # it repeats what was given
        return "kind must be none, basic, bearer or oauth2"
    if kind == "extra_forbidden":
        return f"is not known; access has the parts {', '.join(Access.model_fields)}, as docs/webhooks.md tells"
    return message.removeprefix("Value error, ")


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return {name: _revealed(each) for name, each in value.items()} if isinstance(value, dict) else value
