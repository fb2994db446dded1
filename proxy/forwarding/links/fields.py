"""Header fields of an answer that hold addresses, and those that are about its bytes.

Location and Content-Location hold one URI reference (RFC 9110 §10.2.2, §8.7), Link a list of them in angle
brackets with parameters (RFC 8288 §3), which stay as they are.
"""

import re

from proxy.forwarding.headers import ADDRESSES
from proxy.forwarding.links.addresses import AddressMap

# Of the bytes that the service sent (RFC 9530, RFC 1864): no longer true of others.
DIGESTS = frozenset({b"content-md5", b"digest", b"content-digest", b"repr-digest"})
# One link: target, then parameters up to a comma that stands outside of quotes.
_LINK = re.compile(rb'([ \t,]*<)([^<>]*)(>(?:[^",]|"(?:[^"\\]|\\.)*")*)')


def mapped_lines(lines: bytes, addresses: AddressMap, here: bytes) -> bytes:
    """Header lines with their addresses mapped.

    Args:
        lines: fields of an answer, each ended by CRLF.
        addresses: what becomes of them.
        here: the origin that answered, for references without one.
    """
    made: list[bytes] = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        low = name.lower()
        if low not in ADDRESSES:
            made.append(line)
            continue
        value = value.lstrip(b" \t")
        new = _links(value, addresses, here) if low == b"link" else _reference(value, addresses, here)
        made.append(line if new == value else b"%b%b %b" % (name, colon, new))
    return b"\r\n".join(made)


def _reference(text: bytes, addresses: AddressMap, here: bytes) -> bytes:
    """Absolute, or relative to the origin or its scheme; a caller resolves all others by itself."""
    if text.startswith(b"//"):
        absolute = here.partition(b"//")[0] + text
    elif text.startswith(b"/"):
        absolute = here + text
    else:
        absolute = text
    return addresses.replaced(absolute) or text


def _links(value: bytes, addresses: AddressMap, here: bytes) -> bytes:
    made: list[bytes] = []
    at = 0
    while (link := _LINK.match(value, at)) is not None:
        opening, target, rest = link.groups()
        made += (opening, _reference(target, addresses, here), rest)
        at = link.end()
    return b"".join([*made, value[at:]])


def of_other_bytes(lines: bytes) -> bytes:
    """The lines for a body that may differ from what the service sent.

    Digests go (RFC 9530 §4), and a strong ETag becomes a weak one, as equal tags mean equal bytes
    (RFC 9110 §8.8.1).
    """
    made: list[bytes] = []
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        low = name.lower()
        if low in DIGESTS:
            continue
        tag = value.strip(b" \t")
        made.append(b"%b: W/%b" % (name, tag) if low == b"etag" and tag.startswith(b'"') else line)
    return b"\r\n".join(made)
