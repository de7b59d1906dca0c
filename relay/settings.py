"""Every setting of relay, once: its name, its type with the unit in it, its default and what it is for.

Read from the environment: `RELAY_<ROOM>__<NAME>`, for example `RELAY_DELIVER__DEADLINE=15s`. The table in
`docs/configuration.md` is generated from here. Rooms are handed values, never this object.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from relay.domain.egress import networks, ports, proxy
from relay.domain.errors import UserError
from relay.domain.spans import Span
from relay.domain.verification import ORIGIN


class Room(BaseModel):
    """The settings of one room."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Database(Room):
    """The PostgreSQL that holds all state."""

    url: SecretStr | None = Field(None, description="postgresql://user:password@host/name; unset: the embedded one.")
    connections: int = Field(
        10, ge=2, le=200, description="Pool size of one worker, beside two that keep its leases and four for HTTP."
    )
    keep: Span = Field(
        timedelta(days=30), description="Events with their deliveries and attempts are forgotten after this."
    )


class Kafka(Room):
    """The broker that events go to and come back from."""

    bootstrap: str | None = Field(None, description="host:port, comma separated; unset: the embedded broker.")
    prefix: str = Field("relay", pattern=r"^[A-Za-z0-9._-]{1,80}$", description="First part of every topic name.")
    partitions: int = Field(6, ge=1, le=1000, description="Partitions of a topic when relay creates it.")
    replication: int = Field(1, ge=1, le=9, description="Replicas of a topic when relay creates it.")
    retention: Span = Field(timedelta(days=14), description="How long change events stay on their topic.")
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are reached."
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("PLAIN", description="SASL mechanism.")
    username: str | None = Field(None, description="SASL user.")
    password: SecretStr | None = Field(None, description="SASL password.")
    ca_file: Path | None = Field(None, description="Certificates that sign the brokers', PEM.")
    timeout: Span = Field(timedelta(seconds=10), description="How long a publish may take before it counts as failed.")
    stale_after: Span = Field(
        timedelta(seconds=30), description="A published event that did not come back is published again after this."
    )


class Vault(Room):
    """The master keys that customers' data keys are wrapped with."""

    master_key: SecretStr | None = Field(None, description="keyid:base64 of 32 bytes; several by comma, first is used.")
    master_key_file: Path | None = Field(
        None, description="A file with the same, one key a line, mode 0600; read again when it changes."
    )
    current: str | None = Field(
        None, description="Id of the master key that wraps new data keys; unset: the KMS's, else the first."
    )
    kms_url: str | None = Field(None, description="A HashiCorp Vault or OpenBao whose transit engine wraps data keys.")
    kms_mount: str = Field("transit", pattern=r"^[A-Za-z0-9._/-]{1,200}$", description="Where its transit engine is.")
    kms_key: str = Field("relay", pattern=r"^[A-Za-z0-9._-]{1,200}$", description="Name of its key for new data keys.")
    kms_token: SecretStr | None = Field(None, description="Token for it.")
    kms_token_file: Path | None = Field(
        None, description="A file with the token, read for each request, so that an agent may renew it."
    )
    kms_namespace: str | None = Field(None, description="Its namespace.")
    kms_ca_file: Path | None = Field(None, description="Certificates that sign its own, PEM; unset: the system's.")
    kms_timeout: Span = Field(timedelta(seconds=5), description="How long it may take to answer.")
    kms_remember: Span = Field(
        timedelta(minutes=5), description="A worker remembers a data key that the KMS unwrapped for this long."
    )


class Poll(Room):
    """Reading ERPs."""

    backoff: Span = Field(timedelta(seconds=5), description="First wait after an ERP failed; doubles with jitter.")
    backoff_limit: Span = Field(timedelta(minutes=15), description="Longest wait between tries of a failing ERP.")
    missing_passes: int = Field(2, ge=2, le=10, description="Full passes an order must be missing from before a look.")
    missing_share: float = Field(
        0.2, gt=0, le=1, description="A pass that misses more than this share of the orders deletes nothing."
    )


class Commands(Room):
    """Writing to ERPs."""

    largest: ByteSize = Field(
        ByteSize(256 * 1024), ge=1024, le=16 * 1024 * 1024, description="Most bytes of one command."
    )
    expire_after: Span = Field(
        timedelta(days=1), description="A command that does not say how long it may wait expires after this."
    )
    signed: Literal["off", "required"] = Field(
        "off",
        description="Whether commands from Kafka must be signed with the command key of their connection; off: whoever "
        "may write to the topic may command.",
    )
    settle: Span = Field(
        timedelta(minutes=2),
        ge=timedelta(seconds=1),
        description="How long an ERP may go on working on a command that relay no longer waits for, from when it was "
        "sent. Only then may one that took no effect be sent again.",
    )
    at_once: int = Field(
        4, ge=1, le=100, description="Most commands that are done at once in one ERP; never more than its calls."
    )


class Deliver(Room):
    """Sending webhooks."""

    deadline: Span = Field(timedelta(seconds=15), description="One attempt, from resolving the name to the last byte.")
    connect: Span = Field(timedelta(seconds=5), description="Connecting and TLS, within the deadline.")
    at_once: int = Field(64, ge=1, le=1000, description="Most attempts in flight per endpoint; adapts to the receiver.")
    memory: ByteSize = Field(
        ByteSize(256 * 1024 * 1024), ge=1024 * 1024, description="Webhook bodies that a worker holds, of all endpoints."
    )
    allow_http: bool = Field(False, description="Allow endpoints without TLS (always so with the embedded database).")
    origin: str = Field(
        ORIGIN,
        pattern=r"^[A-Za-z0-9.-]{1,253}$",
        description="What relay is called where a receiver must allow it (CloudEvents handshake): a DNS name.",
    )


def _networks(value: str) -> str:
    networks(value)
    return value


def _ports(value: str) -> str:
    ports(value)
    return value


def _proxy(value: SecretStr) -> SecretStr:
    proxy(value.get_secret_value())
    return value


Networks = Annotated[str, AfterValidator(_networks)]
Ports = Annotated[str, AfterValidator(_ports)]
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy)]


class Egress(Room):
    """Which addresses webhooks may be sent to. Special ones (private, loopback, metadata and so on) are refused."""

    allow: Networks = Field("", description="Networks that may be called all the same: CIDR, comma separated.")
    deny: Networks = Field("", description="Networks that may never be called; wins over everything else.")
    ports: Ports = Field("", description="The only ports that may be called, comma separated; empty: any.")
    private: bool = Field(
        False, description="Allow private networks and this machine (always allowed by `relay up` and demo)."
    )
    proxy: ProxyUrl | None = Field(
        None, description="Forward proxy that all webhooks go through: http://user:password@host:port."
    )
    proxy_resolves: bool = Field(
        False, description="Leave names that cannot be resolved here to the proxy; it must then have rules of its own."
    )


class Leases(Room):
    """How workers share the work."""

    ttl: Span = Field(timedelta(seconds=15), description="A worker that is silent for this long loses its leases.")
    tick: Span = Field(timedelta(seconds=1), description="How often a worker looks for free leases.")


class Http(Room):
    """Health, metrics, the event catalogue, the pull API, public keys, and the control API."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    calls_per_second: float = Field(
        20, gt=0, le=10000, description="Calls of one caller of the control API, on average; twice as many at once."
    )
    certificate: Path | None = Field(
        None, description="PEM file for TLS (1.2 or newer), with what leads to its authority; unset: plain HTTP."
    )
    key: Path | None = Field(None, description="PEM file with the certificate's private key.")

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("RELAY_HTTP__CERTIFICATE and RELAY_HTTP__KEY are set together, or neither")
        return self


class Api(Room):
    """Where commands find relay: unset, it is the one of this machine, or the database that is named."""

    url: str | None = Field(
        None,
        pattern=r"^https?://[^\s@?#]+$",
        description="Address of a relay's control API, such as https://relay.lan.",
    )
    key: SecretStr | None = Field(None, description="Operator key (rlyk_...) for it.")
    key_file: Path | None = Field(None, description="A file that holds the key, instead.")
    ca_file: Path | None = Field(
        None, description="Certificates that sign its certificate, PEM; unset: the usual ones."
    )


class Log(Room):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level that is written.")
    json_lines: bool | None = Field(None, description="JSON lines; unset: when standard error is not a terminal.")


class Settings(BaseSettings):
    """All rooms. `data` is where the embedded parts and the generated master key live."""

    # An empty variable is an unset one: compose files and manifests pass on what was never filled in.
    model_config = SettingsConfigDict(
        env_prefix="RELAY_", env_nested_delimiter="__", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    data: Path = Field(Path("~/.relay"), description="Directory of the embedded database, broker and master key.")
    drain: Span = Field(timedelta(seconds=20), description="How long work in flight may take when stopping.")
    database: Database = Database()
    kafka: Kafka = Kafka()
    vault: Vault = Vault()
    poll: Poll = Poll()
    commands: Commands = Commands()
    deliver: Deliver = Deliver()
    egress: Egress = Egress()
    leases: Leases = Leases()
    http: Http = Http()
    api: Api = Api()
    log: Log = Log()


def load() -> Settings:
    """The settings of this environment.

    Raises:
        UserError: names each variable that cannot be read, and why; never its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"  RELAY_{'__'.join(str(step).upper() for step in e['loc'])}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise UserError("These settings cannot be used:\n" + "\n".join(wrong)) from None
    except SettingsError as error:
        # Its text names the room; its cause quotes the value.
        raise UserError(f"These settings cannot be used: {error}. Set RELAY_<ROOM>__<NAME> instead") from None
