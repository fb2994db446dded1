"""Which addresses may be dialled: classification of IP addresses, host:port texts, odd spellings (R78, R80).

The tables are IANA's special-purpose registries (RFC 6890 and its updates) plus the metadata services of the
clouds. In IPv6 only global unicast space (2000::/3, RFC 4291 §2.4) is dialled at all.
"""

import ipaddress
import re
import socket
from typing import Literal, NamedTuple

from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Reason = Literal[
    "metadata",
    "unspecified",
    "loopback",
    "link_local",
    "private",
    "cgnat",
    "multicast",
    "broadcast",
    "documentation",
    "benchmarking",
    "ipv4_mapped",
    "ipv4_compatible",
    "ipv4_translated",
    "nat64",
    "6to4",
    "teredo",
    "isatap",
    "site_local",
    "orchid",
    "reserved",
    "self",
]

_DENIED: tuple[tuple[str, Reason], ...] = (
    ("169.254.169.254/32", "metadata"),  # AWS, Azure, Google, DigitalOcean, ...
    ("169.254.170.2/32", "metadata"),  # AWS container credentials
    ("168.63.129.16/32", "metadata"),  # Azure's host, in public address space
    ("100.100.100.200/32", "metadata"),  # Alibaba
    ("192.0.0.192/32", "metadata"),  # Oracle
    ("fd00:ec2::254/128", "metadata"),  # AWS
    ("fd20:ce::254/128", "metadata"),  # Google
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "cgnat"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link_local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4"),  # relay anycast, RFC 7526
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "ipv4_mapped"),
    ("::ffff:0:0:0/96", "ipv4_translated"),  # RFC 2765 §2.1
    ("::/96", "ipv4_compatible"),
    ("64:ff9b::/96", "nat64"),
    ("64:ff9b:1::/48", "nat64"),  # local-use, RFC 8215
    ("2001::/32", "teredo"),
    ("2001:2::/48", "benchmarking"),
    ("2001:10::/28", "orchid"),
    ("2001:20::/28", "orchid"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link_local"),
    ("fec0::/10", "site_local"),
    ("ff00::/8", "multicast"),
)
_TABLE: tuple[tuple[Network, Reason], ...] = tuple((ipaddress.ip_network(net), why) for net, why in _DENIED)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_LOW_32_BITS = 0xFFFF_FFFF
_ISATAP_IDS = frozenset({0x0000_5EFE, 0x0200_5EFE})  # RFC 5214 §6.1
_LOW_32 = tuple(
    ipaddress.IPv6Network(net)
    for net in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96")
)
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_ENDS_IN_NUMBER = re.compile(r"(?:\A|\.)(?:[0-9]+|0x[0-9a-f]*)\.?\Z", re.IGNORECASE | re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
MAX_PORT = 65535


def hostport(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Dial(NamedTuple):
    """Where a connection is opened: a literal IP address and a port. Nothing is looked up any more."""

    ip: str
    port: int

    def __str__(self) -> str:
        return hostport(self.ip, self.port)


def parse_address(text: str) -> Address | None:
    """The address that ``text`` spells canonically, or None; a zone (``%eth0``) is cut off."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a transition form leads to (mapped, NAT64, 6to4, Teredo, ISATAP), or None."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    number = int(address)
    if any(address in network for network in _LOW_32):
        return ipaddress.IPv4Address(number & _LOW_32_BITS)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address(number >> 80 & _LOW_32_BITS)
    if address in _TEREDO:  # the client's address, obfuscated: RFC 4380 §4
        return ipaddress.IPv4Address(~number & _LOW_32_BITS)
    if number >> 32 & _LOW_32_BITS in _ISATAP_IDS:
        return ipaddress.IPv4Address(number & _LOW_32_BITS)
    return None


def classify(address: Address) -> Reason | None:
    """Why this address must not be dialled, or None when it is a public one."""
    for network, reason in _TABLE:
        if address.version == network.version and address in network:
            return reason
    if isinstance(address, ipaddress.IPv6Address):
        if address not in _GLOBAL_UNICAST:
            return "reserved"
        if embedded(address) is not None:
            return "isatap"
    return None


def is_odd_ipv4(host: str) -> bool:
    """True for what a C library reads as IPv4 though it is no dotted quad: ``127.1``, ``0x7f.1``, ``21307``.

    The rule is the URL standard's ("ends in a number"): no DNS name has a last label of digits.
    """
    return _ENDS_IN_NUMBER.search(host) is not None and parse_address(host) is None


def is_own_interface(address: Address) -> bool:
    """True when this machine has the address (a datagram socket can be bound to it; nothing is sent)."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  # the IP version
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def normalize_host(text: str) -> str:
    """The one spelling of a host: lower case, A-labels, no trailing dot, an address in its canonical form.

    Raises:
        ValueError: not a host, or an odd spelling of an IPv4 address.
    """
    host = text.lower().removesuffix(".")
    address = parse_address(host) if "%" not in host else None
    if address is not None:
        return str(address)
    if not host or is_odd_ipv4(host) or any(c <= " " or c in "/?#@:[]%\\" for c in host):
        raise ValueError(f"{text!r} is not a host")
    encoded = URL.build(scheme="https", host=host).raw_host
    if not encoded or not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", encoded, re.ASCII):
        raise ValueError(f"{text!r} is not a host")
    return encoded


def parse_hostport(text: str) -> tuple[str, int]:
    """``host:port`` or ``[ipv6]:port`` as a normalized host and a port.

    Raises:
        ValueError: anything else; an IPv6 address has brackets and nothing else has them.
    """
    head, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} lacks a port")
    if _PORT.fullmatch(port) is None or not 0 < int(port) <= MAX_PORT:
        raise ValueError(f"{text!r}: the port is a number from 1 to {MAX_PORT}")
    bracketed = head.startswith("[") and head.endswith("]")
    inner = head[1:-1] if bracketed else head
    host = normalize_host(inner) if ":" not in inner or bracketed else ""
    if not host or bracketed != (":" in host):
        raise ValueError(f"{text!r} is not host:port (an IPv6 address stands in brackets)")
    return host, int(port)
