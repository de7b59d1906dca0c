"""The Kafka wire without a broker: names, access, capabilities, and addresses where nobody answers."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from faststream.kafka import KafkaBroker
from faststream.kafka.security import parse_security

from relay.domain.errors import Unavailable, UserError
from relay.domain.messages import Message, MessageRefused, Published
from relay.wire.kafka import (
    Capabilities,
    KafkaAccess,
    Topics,
    capabilities_of,
    client_arguments,
    probe,
    security,
)
from relay.wire.kafka_publisher import Publisher
from relay.wire.kafka_topics import plans

WHOLE = {22: (0, 5), 23: (2, 4), 37: (0, 3)}
PLAIN = Capabilities(idempotent_producer=False, partitions_can_grow=False, session_timeout_ms=6000)
MESSAGE = Message("t", b"k", b"v")


@pytest.fixture
def silent():
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed():
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_topics_are_named_from_the_prefix():
    topics = Topics("acme")
    orders = [topics.changes, topics.state, topics.commands, topics.command_results, topics.dead_letters]
    assert [*orders, topics.operations] == [
        "acme.purchase-orders.changes.v1",
        "acme.purchase-orders.state.v1",
        "acme.purchase-orders.commands.v1",
        "acme.purchase-orders.command-results.v1",
        "acme.purchase-orders.dead-letters.v1",
        "acme.operations.v1",
    ]


def test_the_state_topic_is_compacted_and_the_others_are_kept_for_the_retention():
    topics = Topics("acme")
    found = {
        plan.name: plan.configs for plan in plans(topics, partitions=6, replication=1, retention=timedelta(days=14))
    }
    assert found[topics.state]["cleanup.policy"] == "compact"
    assert "retention.ms" not in found[topics.state]
    del found[topics.state]
    assert len(found) == 5
    for configs in found.values():
        assert configs["cleanup.policy"] == "delete"
        assert configs["retention.ms"] == str(14 * 24 * 3600 * 1000)


@pytest.mark.parametrize(("replication", "least"), [(1, None), (2, None), (3, "2")])
def test_three_replicas_ask_for_two_in_sync(replication, least):
    for plan in plans(Topics("a"), partitions=1, replication=replication, retention=timedelta(days=1)):
        assert plan.configs.get("min.insync.replicas") == least


def test_a_broker_with_the_whole_protocol_gets_an_idempotent_producer():
    assert capabilities_of(WHOLE) == Capabilities(
        idempotent_producer=True, partitions_can_grow=True, session_timeout_ms=10_000
    )


@pytest.mark.parametrize("absent", [23, 37])
def test_a_broker_without_one_of_the_telling_apis_is_asked_for_less(absent):
    found = capabilities_of({key: versions for key, versions in WHOLE.items() if key != absent})
    assert not found.idempotent_producer
    assert found.session_timeout_ms == 6_000


@pytest.mark.parametrize("versions", [{}, {22: (1, 5)}])
def test_idempotence_needs_the_request_that_our_client_speaks(versions):
    whole = {key: value for key, value in WHOLE.items() if key != 22}
    assert not capabilities_of(whole | versions).idempotent_producer


def test_a_password_is_not_shown():
    access = KafkaAccess("h:1", "SASL_PLAINTEXT", "PLAIN", "user", "canary")
    assert "canary" not in repr(access)


def test_a_login_without_a_password_is_refused():
    with pytest.raises(UserError, match="RELAY_KAFKA__PASSWORD"):
        KafkaAccess("h:1", "SASL_SSL", sasl_username="user")


def test_a_ca_file_that_is_none_is_refused_by_name(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UserError, match=r"ca\.pem"):
        client_arguments(KafkaAccess("h:1", "SSL", ca_file=tmp_path / "ca.pem"))


def test_encrypted_connections_are_tls_1_2_or_newer_and_verified():
    context = client_arguments(KafkaAccess("h:1", "SSL"))["ssl_context"]
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_faststream_and_aiokafka_log_in_alike(protocol, mechanism):
    access = KafkaAccess("h:1", protocol, mechanism, "user", "pass")
    ours = client_arguments(access)
    theirs = parse_security(security(access))
    for name in ("security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"):
        assert ours.get(name) == theirs.get(name)
    assert (ours.get("ssl_context") is None) == (theirs["ssl_context"] is None)
    KafkaBroker(access.bootstrap, security=security(access), client_id=access.client_id)
    await AIOKafkaProducer(**ours).stop()


async def test_a_broker_with_an_untrusted_certificate_is_named_with_what_to_do(tmp_path):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed(tmp_path))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        address = f"127.0.0.1:{port}"
        with pytest.raises(UserError, match=f"{address}.*RELAY_KAFKA__CA_FILE"):
            await probe(KafkaAccess(address, "SSL"))


def self_signed(folder):
    """A PEM file with a key and a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "both.pem").write_bytes(plain + certificate.public_bytes(Encoding.PEM))
    return folder / "both.pem"


async def test_a_broker_that_refuses_connections_is_named_with_what_to_do(closed):
    with pytest.raises(Unavailable, match=f"{closed}.*RELAY_KAFKA__BOOTSTRAP"):
        await probe(KafkaAccess(closed))


async def test_a_broker_that_does_not_answer_is_given_up_in_time(silent):
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match=f"{silent}.*within 0.2 s"):
            await probe(KafkaAccess(silent), deadline=0.2)


async def test_publishing_to_nobody_acknowledges_nothing(closed):
    publisher = Publisher(KafkaAccess(closed), PLAIN)
    published = await publisher.publish([MESSAGE])
    assert published.acknowledged == 0
    assert isinstance(published.error, Unavailable)
    await publisher.stop()


async def test_publishing_to_a_broker_that_does_not_answer_returns_in_time(silent):
    publisher = Publisher(KafkaAccess(silent), PLAIN, deadline=0.2)
    async with asyncio.timeout(5):
        published = await asyncio.gather(*(publisher.publish([MESSAGE]) for _ in range(3)))
    assert [each.acknowledged for each in published] == [0, 0, 0]
    assert all(isinstance(each.error, Unavailable) for each in published)


async def test_starting_without_a_broker_says_so(closed, silent):
    with pytest.raises(Unavailable, match=closed):
        await Publisher(KafkaAccess(closed), PLAIN).start()
    with pytest.raises(Unavailable, match=silent):
        await Publisher(KafkaAccess(silent), PLAIN, deadline=0.2).start()


async def test_publishing_nothing_needs_no_broker(closed):
    assert await Publisher(KafkaAccess(closed), PLAIN).publish([]) == Published(0)


async def test_what_cannot_be_prepared_is_not_published(closed):
    async def prepare():
        raise Unavailable("no topics yet")

    published = await Publisher(KafkaAccess(closed), PLAIN, prepare=prepare).publish([MESSAGE])
    assert published.acknowledged == 0
    assert str(published.error) == "no topics yet"
    assert not isinstance(published.error, MessageRefused)
