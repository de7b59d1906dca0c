"""Where webhooks may go: the rules over all special addresses, and the sender under names that change their mind."""

import asyncio
import threading
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import AF_INET, SOCK_DGRAM, socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.domain.deliveries import Answer
from relay.domain.egress import METADATA, SPECIAL, Policy, embedded, literal, networks, ports
from relay.domain.errors import UserError
from relay.wire.egress import Found, _is_own, checked, lookup
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender, check_host, check_url

STRICT, HERE = Policy(), Policy(allow_private=True)
PUBLIC = ("93.184.215.14", "1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def within(network):
    return st.integers(int(network[0]), int(network[-1])).map(type(network[0]))


SPECIAL_V4 = [network for network, _ in SPECIAL if network.version == 4]
special_v4 = st.sampled_from(SPECIAL_V4).flatmap(within)
special_any = st.sampled_from([network for network, _ in SPECIAL]).flatmap(within)


def at(prefix, shift):
    """The IPv6 address that carries an IPv4 one so many bits from its end."""
    return lambda v4: IPv6Address(int(IPv6Address(prefix)) | int(v4) << shift)


def nat64(length):
    """RFC 6052 section 2.2, written down octet by octet: the ninth is left out."""

    def form(v4):
        octets = bytearray(IPv6Address("64:ff9b:1::").packed)
        places = [place for place in range(length // 8, 16) if place != 8]
        for place, octet in zip(places, v4.packed, strict=False):
            octets[place] = octet
        return IPv6Address(bytes(octets))

    return form


EMBEDDINGS = {
    "mapped": at("::ffff:0:0", 0),
    "translated": at("::ffff:0:0:0", 0),
    "compatible": at("::", 0),
    "NAT64": at("64:ff9b::", 0),
    "NAT64 /48": nat64(48),
    "NAT64 /56": nat64(56),
    "NAT64 /64": nat64(64),
    "NAT64 /96": nat64(96),
    "6to4": at("2002::", 80),
    "Teredo server": at("2001::", 64),
    "Teredo client": lambda v4: IPv6Address(int(IPv6Address("2001::")) | int(v4) ^ 0xFFFFFFFF),
    "ISATAP": at("2a00:1450::5efe:0:0", 0),
    "ISATAP, global": at("2a00:1450::200:5efe:0:0", 0),
}


@given(special_any, st.integers(1, 65535))
def test_every_special_address_is_refused(address, port):
    assert STRICT.refusal(address, port)


@pytest.mark.parametrize("form", EMBEDDINGS.values(), ids=EMBEDDINGS)
@given(v4=special_v4)
def test_every_special_ipv4_address_is_refused_in_every_ipv6_form(form, v4):
    assert STRICT.refusal(form(v4), 443)
    assert v4 in set(embedded(form(v4))) or form(v4) in {IPv6Address("::"), IPv6Address("::1")}


@pytest.mark.parametrize("form", EMBEDDINGS.values(), ids=EMBEDDINGS)
@given(v4=special_v4.filter(lambda v4: v4 not in ip_network("10.0.0.0/8") and int(v4) > 1))
def test_an_allowed_ipv6_form_does_not_carry_a_special_ipv4_address_through(form, v4):
    policy = Policy(allow=networks("::/0, 10.0.0.0/8"))
    assert policy.refusal(form(v4), 443)


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_passes_that_python_does_not_call_global(address):
    assert STRICT.refusal(address, 443) or (address.is_global and not address.is_multicast)


IANA = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
    *("::1/128", "::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64"),
    *("2001::/23", "2001::/32", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28"),
    *("2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7"),
    *("fe80::/10", "fec0::/10", "ff00::/8"),
)
"""The special-purpose registries and the multicast ranges as IANA lists them, written down once more."""


@pytest.mark.parametrize("network", IANA)
def test_every_network_of_the_registries_is_refused_from_end_to_end(network):
    """Svix misses Teredo, ::/96 and fec0::/10; Convoy, unlicensed, private networks; Outpost all of them."""
    first, last = ip_network(network)[0], ip_network(network)[-1]
    assert STRICT.refusal(first, 443)
    assert STRICT.refusal(last, 443)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address):
    assert STRICT.refusal(ip_address(address), 443) is None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "this machine (loopback)"),
        ("::1", "this machine (loopback)"),
        ("0.0.0.1", "this machine (unspecified)"),
        ("::", "this machine (unspecified)"),
        ("10.0.0.1", "a private network"),
        ("100.64.0.1", "a private network"),
        ("fd00::1", "a private network"),
        ("169.254.169.254", METADATA),
        ("168.63.129.16", METADATA),
        ("100.100.100.200", METADATA),
        ("fd00:ec2::254", METADATA),
        ("169.254.0.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("255.255.255.255", "a multicast or broadcast address"),
        ("ff02::1", "a multicast or broadcast address"),
        ("::ffff:8.8.8.8", "an IPv4 address inside an IPv6 one"),
        ("2001:db8::1", "a reserved network"),
        ("4000::1", "a reserved network"),
    ],
)
def test_a_refusal_says_what_the_address_is(address, words):
    assert STRICT.refusal(ip_address(address), 443) == words


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.9.8.7", "192.168.0.1", "172.16.0.1", "fd12::1"])
def test_private_networks_are_for_those_who_allow_them(address):
    assert STRICT.refusal(ip_address(address), 80)
    assert HERE.refusal(ip_address(address), 80) is None


@given(st.sampled_from([network for network, words in SPECIAL if words == METADATA]).flatmap(within))
def test_metadata_services_are_no_private_network_and_need_to_be_allowed_by_name(address):
    assert HERE.refusal(address, 80) == METADATA
    assert Policy(allow=(ip_network(address),)).refusal(address, 80) is None


@given(special_any)
def test_what_is_allowed_passes_and_what_is_denied_never_does(address):
    everything = networks("0.0.0.0/0,::/0")
    assert Policy(allow=everything).refusal(address, 443, own=True) is None
    assert Policy(allow=everything, deny=(ip_network(address),)).refusal(address, 443) == "on the deny list"


@pytest.mark.parametrize("form", EMBEDDINGS.values(), ids=EMBEDDINGS)
@given(v4=st.integers(2, 2**32 - 1).map(IPv4Address))
def test_what_is_denied_is_denied_in_every_ipv6_form(form, v4):
    assert Policy(allow=networks("0.0.0.0/0,::/0"), deny=(ip_network(v4),)).refusal(form(v4), 443) == "on the deny list"


def test_a_network_behind_nat64_may_allow_it_and_public_addresses_pass():
    policy = Policy(allow=networks("64:ff9b::/96"))
    assert policy.refusal(ip_address("64:ff9b::8.8.8.8"), 443) is None
    assert policy.refusal(ip_address("64:ff9b::10.0.0.1"), 443) == "a private network"


def test_only_the_ports_that_are_named_pass():
    policy = Policy(ports=ports("443, 8443"))
    assert policy.refusal(ip_address("8.8.8.8"), 8443) is None
    assert "port 25" in (policy.refusal(ip_address("8.8.8.8"), 25) or "")


def test_a_machines_own_public_address_is_refused_like_a_private_one():
    own = ip_address("8.8.8.8")
    assert STRICT.refusal(own, 443, own=True) == "one of this machine's own addresses"
    assert HERE.refusal(own, 443, own=True) is None
    assert Policy(allow=networks("8.8.8.8")).refusal(own, 443, own=True) is None


def test_lists_are_read_with_blanks_and_may_be_empty():
    assert (networks(" "), ports("")) == ((), frozenset())
    assert networks("10.0.0.0/8 , ::1") == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "canary", "10.0.0.0/8,", "::/canary"])
def test_what_is_no_network_is_refused_by_its_place_and_not_repeated(text):
    with pytest.raises(ValueError, match=r"entry [12] is not a network") as refused:
        networks(text)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "443,canary", "443,", "٤٤٣", "9" * 5000])
def test_what_is_no_port_is_refused_by_its_place_and_not_repeated(text):
    with pytest.raises(ValueError, match=r"entry [12] is not a port") as refused:
        ports(text)
    assert "canary" not in str(refused.value)


@given(special_any)
def test_an_address_in_a_url_is_an_address_and_a_name_is_none(address):
    assert literal(f"[{address}]" if address.version == 6 else str(address)) == address
    assert literal(f"x{address}".replace(":", "-")) is None


# Names


def answering(*answers):
    """A name server that gives these answers in turn, the last one for ever; `asked` counts."""
    left = list(answers)

    async def resolve(_host, _port):
        resolve.asked += 1
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    resolve.asked = 0
    return resolve


async def look_up(*answers, policy=STRICT, host="hooks.example", seconds=1.0):
    return await checked(host, 443, policy=policy, within=timedelta(seconds=seconds), resolve=answering(*answers))


async def test_a_name_gives_its_addresses_in_order_and_each_once():
    found = await look_up(["8.8.8.8", "2606:4700:4700::1111", "8.8.8.8"])
    assert found == Found((ip_address("8.8.8.8"), ip_address("2606:4700:4700::1111")))


@pytest.mark.parametrize("bad", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%lo", "64:ff9b::7f00:1"])
async def test_one_forbidden_address_refuses_the_whole_name_and_is_named(bad):
    for answer in ([bad, "8.8.8.8"], ["8.8.8.8", bad]):
        found = await look_up(answer)
        assert (found.addresses, found.error) == ((), "policy")
        assert found.detail.startswith(f"hooks.example ({ip_address(bad.partition('%')[0])}) is ")


@pytest.mark.parametrize(
    "answer", [OSError(-2, "no such name"), OSError(), UnicodeError("idna"), TimeoutError(), [], ["nonsense"]]
)
async def test_a_name_that_gives_no_address_is_unresolved(answer):
    found = await look_up(answer)
    assert (found.addresses, found.error) == ((), "resolve")
    assert found.detail.startswith("hooks.example")


async def test_a_name_with_more_addresses_than_anybody_has_is_not_used():
    assert (await look_up([f"8.8.8.{n}" for n in range(65)])).error == "resolve"


async def test_a_name_server_that_is_silent_ends_in_time():
    async def silent(_host, _port):
        await asyncio.Event().wait()

    found = await checked("hooks.example", 443, policy=STRICT, within=timedelta(seconds=0.05), resolve=silent)
    assert found == Found(error="resolve", detail="hooks.example was not resolved in time")


async def test_an_address_is_judged_without_a_name_server():
    assert await look_up(OSError(), host="[2606:4700:4700::1111]") == Found((ip_address("2606:4700:4700::1111"),))
    assert await look_up(OSError(), host="10.0.0.1") == Found(error="policy", detail="10.0.0.1 is a private network")


def test_an_address_of_this_machine_is_known_by_asking_it():
    with closing(socket(AF_INET, SOCK_DGRAM)) as way_out:
        try:
            way_out.connect(("192.0.2.1", 9))  # nothing is sent: it only chooses the address to send from
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = way_out.getsockname()[0]
    assert _is_own(ip_address(own))
    assert not _is_own(ip_address("8.8.8.8"))


async def test_the_systems_resolver_knows_this_machine():
    assert {"127.0.0.1", "::1"} & set(await lookup("localhost", 80))


async def test_the_host_of_a_new_endpoint_is_checked_and_a_refusal_does_not_repeat_its_path():
    soon = timedelta(seconds=1)
    assert await check_host("https://hooks.example/", STRICT, within=soon, resolve=answering(["8.8.8.8"])) == ()
    [notice] = await check_host("https://hooks.example/", STRICT, within=soon, resolve=answering(OSError(-2, "no")))
    assert notice == "hooks.example: no: webhooks wait until it can be resolved"
    with pytest.raises(UserError, match=r"hooks.example \(10.0.0.1\) is a private network") as refused:
        await check_host("https://hooks.example/canary", STRICT, within=soon, resolve=answering(["10.0.0.1"]))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "017700000001", "0x7f.0.0.1", "127.0.0.1."),
        *("0", "0.0.0.1", "00000000.0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]"),
        *("[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
        *("[2001:0:7f00:1::]", "[2a00:1450::5efe:7f00:1]", "[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]", "[fec0::1]"),
        *("①②⑦.0.0.1", "１２７.0.0.1", "127。0。0。1", "%31%32%37.0.0.1", "localhost", "LocalHost", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"),
        *("169.254.169.254", "0xa9fea9fe", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "168.63.129.16"),
        *("user@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1#@example.com", "127.0.0.1\\@example.com"),
    ],
)
async def test_no_spelling_of_an_address_of_ours_gets_past_both_checks(host):
    with pytest.raises(UserError, match="the endpoint's URL") as refused:
        await check_host(check_url(f"https://{host}/canary"), STRICT, within=timedelta(seconds=10))
    assert "canary" not in str(refused.value)


# The sender


class Receiver:
    """Answers 200; counts connections and keeps the Host headers."""

    def __init__(self):
        self.connections, self.hosts, self.tasks = 0, [], []
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.hosts.append(head.lower().split(b"host: ")[1].split(b"\r\n")[0].decode())
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.asked.set()
                await self.hold.wait()
                writer.write(OK)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            writer.transport.abort()


@asynccontextmanager
async def receiving(address="127.0.0.1", port=0):
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, address, port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in receiver.tasks:
            task.cancel()
        await asyncio.gather(*receiver.tasks)


@asynccontextmanager
async def sending(port, resolve, *, policy=HERE, lifetime=60.0, host="hooks.invalid", seconds=5.0):
    deadline = timedelta(seconds=seconds)
    sender = WebhookSender(
        f"http://{host}:{port}/hook?token=canary",
        Dialling(deadline, deadline, 4, policy, resolve, timedelta(seconds=lifetime)),
    )
    try:
        yield sender
    finally:
        await sender.close()


async def sent(sender):
    answer = await sender.send({}, b"{}")
    assert "canary" not in repr(answer)
    return replace(answer, resolve_seconds=0, answer_seconds=None)


@pytest.mark.parametrize("host", ["hooks.invalid", "hooks.invalid.", "HOOKS.invalid", "exämple.invalid", "a_b.invalid"])
async def test_the_client_calls_the_checked_address_by_its_name_and_asks_no_name_server_itself(host):
    resolve = answering(["127.0.0.1"])
    async with receiving() as receiver, sending(receiver.port, resolve, host=host) as sender:
        for _ in range(3):
            assert (await sent(sender)).status == 200
        assert receiver.hosts[0].endswith(f"invalid{'.' * host.endswith('.')}:{receiver.port}")
        assert (resolve.asked, receiver.connections) == (1, 1)


async def test_a_name_that_turns_to_a_forbidden_address_is_not_called_there_although_a_connection_is_open():
    """The rebinding attack: first an address that passes the check, then one that must not be called."""
    policy = Policy(allow=networks("127.0.0.1"))
    resolve = answering(["127.0.0.1"], ["127.0.0.2"])
    async with receiving() as receiver, receiving("127.0.0.2", receiver.port) as inside:
        async with sending(receiver.port, resolve, policy=policy, lifetime=0) as sender:
            assert (await sent(sender)).status == 200
            answer = await sent(sender)
        assert answer == Answer(error="policy", detail="hooks.invalid (127.0.0.2) is this machine (loopback)")
        assert (receiver.connections, inside.connections) == (1, 0)


ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")
FREE = {"127.0.0.1", "127.0.0.2"}


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3), min_size=1, max_size=6))
def test_whatever_a_name_turns_to_only_checked_addresses_are_called(answers):
    async def follow():
        policy = Policy(allow=networks("127.0.0.1, 127.0.0.2"))
        async with receiving() as one, receiving("127.0.0.2", one.port), receiving("127.0.0.3", one.port) as inside:
            async with sending(one.port, answering(*answers), policy=policy, lifetime=0) as sender:
                for answer in answers:
                    told = await sent(sender)
                    free = set(answer) <= FREE
                    assert (told.status, told.error) == ((200, "") if free else (None, "policy"))
                    assert told.address in (set(answer) if free else {""})
            assert inside.connections == 0

    asyncio.run(follow())


async def test_within_the_dns_lifetime_a_reconnect_goes_to_the_checked_address():
    resolve = answering(["127.0.0.1"], ["10.0.0.1"])
    async with receiving() as receiver, sending(receiver.port, resolve) as sender:
        assert (await sent(sender)).status == 200
        await asyncio.gather(*(sent(sender) for _ in range(4)))
        assert receiver.connections > 1
    assert resolve.asked == 1


async def test_connections_are_kept_over_the_dns_lifetime_when_the_address_stays():
    resolve = answering(["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"])
    async with receiving() as receiver, sending(receiver.port, resolve, lifetime=0) as sender:
        for _ in range(4):
            assert (await sent(sender)).status == 200
        assert (resolve.asked, receiver.connections) == (4, 1)


async def test_a_receiver_that_moves_is_followed_and_what_is_in_flight_ends_where_it_began():
    resolve = answering(["127.0.0.1"], ["127.0.0.2"])
    async with receiving() as former, receiving("127.0.0.2", former.port) as later:
        async with sending(former.port, resolve, lifetime=0) as sender:
            former.hold.clear()
            first = asyncio.create_task(sent(sender))
            await former.asked.wait()
            assert (await sent(sender)).status == 200
            former.hold.set()
            assert (await first).status == 200
        assert (former.connections, later.connections) == (1, 1)


async def test_an_address_that_nobody_answers_at_is_passed_over_and_tried_last_from_then_on():
    resolve = answering(["127.0.0.3", "127.0.0.1"])
    async with receiving() as receiver, sending(receiver.port, resolve) as sender:
        for _ in range(3):
            assert (await sent(sender)).status == 200
        assert [each.name for each in sender._caller._pinned._spots] == ["127.0.0.1", "127.0.0.3"]


async def test_when_no_address_answers_the_last_refusal_is_told():
    with closing(socket()) as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening
        async with sending(held.getsockname()[1], answering(["127.0.0.1", "127.0.0.1"])) as sender:
            assert (await sent(sender)).error == "refused"


async def test_a_port_that_is_not_allowed_is_not_called():
    policy = Policy(ports=ports("443"), allow_private=True)
    async with receiving() as receiver, sending(receiver.port, answering(["127.0.0.1"]), policy=policy) as sender:
        answer = await sent(sender)
        assert (answer.error, f"port {receiver.port}" in answer.detail) == ("policy", True)
        assert receiver.connections == 0


async def test_a_name_that_is_refused_once_is_called_when_it_is_mended():
    resolve = answering(["10.0.0.1"], OSError(-2, "no such name"), ["127.0.0.1"])
    policy = Policy(allow=networks("127.0.0.0/8"))
    async with receiving() as receiver, sending(receiver.port, resolve, policy=policy) as sender:
        assert [(await sent(sender)).error for _ in range(3)] == ["policy", "resolve", ""]


async def test_many_at_once_ask_the_name_server_once_and_none_ends_the_question_of_the_others():
    asked, answered = asyncio.Event(), asyncio.Event()
    questions = []

    async def slow(host, port):
        questions.append((host, port))
        asked.set()
        await answered.wait()
        return ["127.0.0.1"]

    async with receiving() as receiver, sending(receiver.port, slow) as sender:
        waiting = [asyncio.create_task(sent(sender)) for _ in range(10)]
        await asked.wait()
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        answered.set()
        assert {(await each).status for each in waiting[1:]} == {200}
    assert questions == [("hooks.invalid", receiver.port)]


async def test_closing_while_a_name_is_looked_up_ends_the_attempt_as_one_to_be_tried_again():
    asked = asyncio.Event()

    async def silent(_host, _port):
        asked.set()
        await asyncio.Event().wait()

    async with sending(9, silent) as sender:
        attempt = asyncio.create_task(sent(sender))
        await asked.wait()
        await sender.close()
        assert await attempt == Answer(error="resolve", detail="closed meanwhile")


async def test_looking_up_does_not_take_the_loops_own_threads():
    before = {each.name for each in threading.enumerate()}
    await lookup("localhost", 80)
    assert all(name.startswith("relay-resolve") for name in {each.name for each in threading.enumerate()} - before)
