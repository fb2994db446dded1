"""Who calls, where a load balancer stands in front: what it writes into requests, if it is one of ours (R35).

The right-most address that is none of ours is the caller's: what stands left of it was written by strangers.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.keys import UNIX, Network

UNKNOWN = "unknown"  # an address that no network holds
_MOST_BYTES, _MOST_HOPS = 8192, 32
# RFC 7239 §4: elements parted by commas, each of pairs; a quoted string may hold both signs.
_ELEMENT = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*")*')
_PAIR = re.compile(rb'(?:[^";]|"(?:[^"\\]|\\.)*")+')
_WITH_PORT = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9.]{7,15})(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Front:
    """What stands in front of us.

    Args:
        peers: networks from which requests come that others have passed on; ``UNIX``: from unix sockets.
        field: in which they write whom a request is from, lower case: ``x-forwarded-for`` or ``forwarded``.
    """

    peers: tuple[Network, ...]
    field: bytes = b"x-forwarded-for"

    def is_ours(self, peer: str) -> bool:
        """Whether what comes from that address may say who calls; empty: from a unix socket."""
        if not peer:
            return UNIX in self.peers
        address = address_of(peer)
        return address is not None and any(address in network for network in self.peers if network != UNIX)

    def caller_of(self, peer: str, values: Sequence[bytes]) -> str:
        """The address of whoever calls.

        Args:
            peer: who is connected.
            values: of the field, one a line, in order.

        Returns:
            an address; ``peer`` where it is none of ours, or told nothing; UNKNOWN where what one of ours
            has written names no address.
        """
        if not values or not self.is_ours(peer):
            return peer
        hops = 0
        for value in reversed(values):
            for text in self._hops(value):
                hops += 1
                address = None if hops > _MOST_HOPS else address_of(text.decode("latin-1"))
                if address is None:
                    return UNKNOWN
                peer = str(address)
                if not self.is_ours(peer):
                    return peer
        return peer  # all of them are ours: the first of them calls for itself

    def _hops(self, value: bytes) -> Sequence[bytes]:
        """Addresses of a line, the last first; what is none is empty."""
        if len(value) > _MOST_BYTES:
            return (b"",)
        if self.field != b"forwarded":
            return [_bare(one) for one in reversed(value.split(b","))]
        found: list[bytes] = []
        at = 0
        while True:
            element = _ELEMENT.match(value, at)
            at = len(value) if element is None else element.end()
            if element is None or (at < len(value) and value[at : at + 1] != b","):
                return (b"",)  # a quote that does not end: nobody knows what belongs to whom
            found.append(_node(element[0]))
            if at == len(value):
                return found[::-1]
            at += 1


def _node(element: bytes) -> bytes:
    """The one ``for`` of an element; empty: there is none, or there are two."""
    pairs = [pair.partition(b"=") for pair in _PAIR.findall(element)]
    named = [value.strip(b" \t") for name, _, value in pairs if name.strip(b" \t").lower() == b"for"]
    return _bare(named[0].strip(b'"')) if len(named) == 1 else b""


def _bare(text: bytes) -> bytes:
    """An address without its port and brackets."""
    text = text.strip(b" \t")
    found = _WITH_PORT.fullmatch(text)
    return text if found is None else found[1] or found[2]


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without its zone; IPv4 also where it is mapped into IPv6. None: it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = address if mapped is None else mapped
    return None if address.is_unspecified else address  # which stands for unix sockets in keys' networks
