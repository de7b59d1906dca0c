"""Kafka: how to reach the brokers, which topics there are, and what these brokers can do.

    KafkaAccess -> client_arguments (aiokafka), security (FastStream)      probe(access) -> Capabilities

What a broker can do is read from the ApiVersions it answers, never from its name: one that lacks CreatePartitions or
OffsetForLeaderEpoch is a stand-in like the embedded broker, and is asked for less.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import ApiVersionRequest
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from relay.domain.errors import CredentialsRefused, RelayError, Unavailable, UserError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

CREATE_PARTITIONS = 37
OFFSET_FOR_LEADER_EPOCH = 23
INIT_PRODUCER_ID = 22

EMBEDDED_SESSION_MS = 6_000
SESSION_MS = 10_000
"""After a worker died, or a broker that died let a member join whom nobody remembers, its partitions stand still for so
long. Admission takes a fraction of it, and the heartbeats go on meanwhile."""

_SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of every topic, from one prefix."""

    prefix: str

    @property
    def changes(self) -> str:
        """Change events, kept for the retention time."""
        return f"{self.prefix}.purchase-orders.changes.v1"

    @property
    def state(self) -> str:
        """The last state of every order: compacted, a tombstone when it is deleted."""
        return f"{self.prefix}.purchase-orders.state.v1"

    @property
    def commands(self) -> str:
        """What others ask to be written to an ERP."""
        return f"{self.prefix}.purchase-orders.commands.v1"

    @property
    def command_results(self) -> str:
        """One outcome per command."""
        return f"{self.prefix}.purchase-orders.command-results.v1"

    @property
    def dead_letters(self) -> str:
        """Messages that nobody could work with, with their reasons."""
        return f"{self.prefix}.purchase-orders.dead-letters.v1"

    @property
    def operations(self) -> str:
        """Notices for operators, about endpoints and connections."""
        return f"{self.prefix}.operations.v1"


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where the brokers are (`host:port`, comma-separated) and how to log in."""

    bootstrap: str
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ca_file: Path | None = None
    """Certificates to trust, PEM; None means the system's."""
    client_id: str = "relay"

    def __post_init__(self) -> None:
        if self.uses_sasl and not (self.sasl_username and self.sasl_password):
            raise UserError(
                f"Kafka security {self.security_protocol} needs RELAY_KAFKA__USERNAME and RELAY_KAFKA__PASSWORD"
            )

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol in {"SSL", "SASL_SSL"}

    @property
    def uses_sasl(self) -> bool:
        """Whether connections log in."""
        return self.security_protocol in {"SASL_PLAINTEXT", "SASL_SSL"}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the brokers can do, as far as relay behaves differently for it."""

    idempotent_producer: bool
    """Retries inside the producer make no duplicates."""
    partitions_can_grow: bool
    session_timeout_ms: int
    """For consumers. Brokers without the full protocol make a joining member wait half of it."""


def client_arguments(access: KafkaAccess) -> dict[str, Any]:
    """Keyword arguments for every aiokafka client. Raises UserError for a CA file that cannot be read."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": access.bootstrap,
        "client_id": access.client_id,
        "security_protocol": access.security_protocol,
    }
    if access.uses_tls:
        arguments["ssl_context"] = _tls(access)
    if access.uses_sasl:
        arguments["sasl_mechanism"] = access.sasl_mechanism
        arguments["sasl_plain_username"] = access.sasl_username
        arguments["sasl_plain_password"] = access.sasl_password
    return arguments


def security(access: KafkaAccess) -> BaseSecurity:
    """What FastStream's KafkaBroker takes as `security` (its `bootstrap_servers` and `client_id` go beside it)."""
    context = _tls(access) if access.uses_tls else None
    if not access.uses_sasl:
        return BaseSecurity(ssl_context=context, use_ssl=access.uses_tls)
    return _SASL[access.sasl_mechanism](
        username=access.sasl_username, password=access.sasl_password, ssl_context=context, use_ssl=access.uses_tls
    )


async def probe(access: KafkaAccess, *, deadline: float = 10.0) -> Capabilities:
    """Ask the first broker that answers what it can do, within `deadline` seconds.

    Raises Unavailable when none answers, CredentialsRefused when it refuses the login, UserError when its certificate
    is not trusted.
    """
    try:
        async with asyncio.timeout(deadline):
            versions = await _api_versions(access)
    except TimeoutError:
        raise unreachable(access, f"no answer within {deadline:g} s") from None
    return capabilities_of(versions)


def capabilities_of(versions: dict[int, tuple[int, int]]) -> Capabilities:
    """Capabilities from the ApiVersions answer: API key to its lowest and highest version."""
    whole = CREATE_PARTITIONS in versions and OFFSET_FOR_LEADER_EPOCH in versions
    # aiokafka speaks version 0 of InitProducerId and no other.
    numbers_producers = versions.get(INIT_PRODUCER_ID, (1, 1))[0] == 0
    return Capabilities(
        idempotent_producer=whole and numbers_producers,
        partitions_can_grow=CREATE_PARTITIONS in versions,
        session_timeout_ms=SESSION_MS if whole else EMBEDDED_SESSION_MS,
    )


def unreachable(access: KafkaAccess, why: object) -> Unavailable:
    """The error for brokers that do not answer: names the address and what to do."""
    return Unavailable(
        f"Kafka does not answer at {access.bootstrap} ({why}). Check that the broker runs and listens there, that it "
        f"advertises an address reachable from here, and that RELAY_KAFKA__BOOTSTRAP and the security settings fit it."
    )


async def _api_versions(access: KafkaAccess) -> dict[int, tuple[int, int]]:
    arguments = client_arguments(access)
    hosts = collect_hosts(arguments.pop("bootstrap_servers"))
    why: object = "no address given"
    for host, port, _ in hosts:
        try:
            return await _ask(host, port, arguments)
        except (OSError, KafkaError) as error:
            if refusal := _refusal(access, error):
                # The broker's own text may quote what was sent.
                raise refusal from None
            why = error
    raise unreachable(access, why)


async def _ask(host: str, port: int, arguments: dict[str, Any]) -> dict[int, tuple[int, int]]:
    connection = await create_conn(host, port, **arguments)
    try:
        reply = await connection.send(ApiVersionRequest())
    finally:
        await connection.close()
    return {key: (lowest, highest) for key, lowest, highest in reply.api_versions}


def _refusal(access: KafkaAccess, error: OSError | KafkaError) -> RelayError | None:
    """The error for a broker that answers and will not have us; None for one that does not answer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return UserError(
            f"The certificate of Kafka at {access.bootstrap} is not trusted ({error.verify_message}); "
            f"name the PEM file of its authority in RELAY_KAFKA__CA_FILE"
        )
    if isinstance(error, AuthenticationFailedError | SaslAuthenticationFailed | UnsupportedSaslMechanismError):
        return CredentialsRefused(
            f"Kafka at {access.bootstrap} refuses user {access.sasl_username!r} by {access.sasl_mechanism}"
        )
    return None


def _tls(access: KafkaAccess) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
    except OSError as error:
        raise UserError(f"The CA file {access.ca_file} cannot be read as PEM: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
