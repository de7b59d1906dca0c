"""Which addresses webhooks may be sent to.

    networks("10.0.0.0/8,fd00::/8"), ports("443") -> Policy -> refusal(address, port) -> why not, or None

The one thing to know: an IPv6 address that carries an IPv4 one (NAT64, 6to4, Teredo, ISATAP, mapped, compatible) is
judged as both, and both must be free: whoever routes it may unpack it. The lists are IANA's special-purpose registries
(RFC 6890), and the metadata services of clouds, which are never counted as private networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import urlsplit

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

METADATA = "the metadata service of a cloud"
_SPECIAL_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        METADATA,
        (
            "169.254.169.254/32",  # AWS, Azure, GCP, Oracle, OpenStack and others
            "169.254.170.2/32",  # AWS: credentials of ECS tasks
            "169.254.170.23/32",  # AWS: credentials of EKS pods
            "168.63.129.16/32",  # Azure's wire server: a public address that only its machines reach
            "100.100.100.200/32",  # Alibaba
            "192.0.0.192/32",  # Oracle, classic
            "fd00:ec2::254/128",  # AWS
            "fd00:ec2::23/128",  # AWS: credentials of EKS pods
            "fd20:ce::254/128",  # GCP
        ),
    ),
    ("this machine (loopback)", ("127.0.0.0/8", "::1/128")),
    ("a private network", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")),
    ("this machine (unspecified)", ("0.0.0.0/8", "::/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("site-local", ("fec0::/10",)),
    ("a multicast or broadcast address", ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")),
    (
        "an IPv4 address inside an IPv6 one",
        ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"),
    ),
    (
        "a reserved network",
        (
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
            "100::/64",
            "2001::/23",
            "2001:db8::/32",
            "2620:4f:8000::/48",
            "3fff::/20",
            "5f00::/16",
        ),
    ),
)
SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(each), words) for words, each_of in _SPECIAL_WORDS for each in each_of
)
"""Networks that are refused unless the allow list names them, the most telling name of an address first."""
PRIVATE = frozenset({"this machine (loopback)", "a private network"})
"""The names in `SPECIAL` that `allow_private` frees."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that IANA gives out; RFC 4291 section 2.4
_OWN = "one of this machine's own addresses"
_LAST_32, _HIGHEST_PORT = 0xFFFFFFFF, 65535
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214 section 6.1
_TAILS = tuple(IPv6Network(each) for each in ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96"))
_LOCAL_NAT64, _SIX_TO_FOUR, _TEREDO = (IPv6Network(each) for each in ("64:ff9b:1::/48", "2002::/16", "2001::/32"))


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy that everything goes through. It is trusted: its own address is not judged."""

    url: str = field(repr=False)
    """With user name and password, when it wants them."""
    resolves: bool = False
    """Names that cannot be resolved here are left to it; otherwise they are not called."""

    def __str__(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be called: `deny` wins over `allow`, `allow` over the built-in list; no `ports` means every port.

    `allow_private` frees loopback and private networks, never metadata services: for one's own machine and tests.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    allow_private: bool = False
    proxy: Proxy | None = None

    def refusal(self, address: Address, port: int, *, own: bool = False) -> str | None:
        """Why this address and port may not be called, in words that follow "is"; None when they may.

        `own` says that the address belongs to the machine that asks.
        """
        forms = (address, *embedded(address))
        if any(_within(each, self.deny) for each in forms):
            return "on the deny list"
        if self.ports and port not in self.ports:
            return f"asked for port {port}, which is not among the allowed ones"
        return next((words for each in forms if (words := self._special(each, own=own))), None)

    def _special(self, address: Address, *, own: bool) -> str | None:
        if _within(address, self.allow):
            return None
        words = special(address)
        if words is None and own:
            words = _OWN
        if self.allow_private and words in PRIVATE | {_OWN}:
            return None
        return words


def special(address: Address) -> str | None:
    """What an address is when it is not an ordinary public one; its own form only, not what it carries."""
    for network, words in SPECIAL:
        if address in network:
            return words
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "a reserved network"
    return None


def embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address carries, by the forms that anybody on the way may unpack."""
    bits = int(address)
    if isinstance(address, IPv4Address) or bits <= 1:  # :: and ::1 carry nothing: RFC 4291 section 2.5.5.1
        return
    if any(address in each for each in _TAILS) or bits >> 32 & _LAST_32 in _ISATAP:
        yield IPv4Address(bits & _LAST_32)
    if address in _LOCAL_NAT64:
        yield from _nat64(bits)
    if address in _SIX_TO_FOUR:
        yield IPv4Address(bits >> 80 & _LAST_32)
    if address in _TEREDO:
        yield IPv4Address(bits >> 64 & _LAST_32)  # its server
        yield IPv4Address(~bits & _LAST_32)  # its client: RFC 4380 section 4


def networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, comma separated; an address alone is a network of one.

    Raises:
        ValueError: an entry is not a network. Says which, and does not repeat it.
    """
    return tuple(_network(each, number) for number, each in enumerate(_entries(text), 1))


def ports(text: str) -> frozenset[int]:
    """Port numbers, comma separated. Raises ValueError saying which entry is none, without repeating it."""
    return frozenset(_port(each, number) for number, each in enumerate(_entries(text), 1))


def proxy(text: str, *, resolves: bool = False) -> Proxy | None:
    """The proxy that a setting names, as http://user:password@host:port; none for an empty one.

    Raises:
        ValueError: it is no such URL. Repeats nothing of it: there may be a password in it.
    """
    if not text:
        return None
    wrong = ValueError("write the proxy as http://host:port or http://user:password@host:port, percent-encoded")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    odd = parts.path.strip("/") or parts.query or parts.fragment or not text.isascii() or not text.isprintable()
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port or odd or " " in text:
        raise wrong
    return Proxy(text, resolves)


def literal(host: str) -> Address | None:
    """The address that a URL's host is, brackets or not; None for a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _nat64(bits: int) -> Iterator[IPv4Address]:
    """By every prefix length that fits into 64:ff9b:1::/48: RFC 6052 section 2.2. Bits 64 to 71 are left out."""
    without_middle = bits >> 64 << 56 | bits & (1 << 56) - 1
    for length in (48, 56, 64):
        yield IPv4Address(without_middle >> 120 - 32 - length & _LAST_32)
    yield IPv4Address(bits & _LAST_32)


def _within(address: Address, within: tuple[Network, ...]) -> bool:
    return any(address in each for each in within)


def _entries(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")] if text.strip() else []


def _network(text: str, number: int) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f"entry {number} is not a network such as 10.1.0.0/16 or 2001:db8::/32") from None


def _port(text: str, number: int) -> int:
    if not (
        text.isascii() and text.isdigit() and len(text) <= len(str(_HIGHEST_PORT)) and 0 < int(text) <= _HIGHEST_PORT
    ):
        raise ValueError(f"entry {number} is not a port from 1 to {_HIGHEST_PORT}")
    return int(text)
