"""Answers inside an answer: ``multipart/mixed`` with an HTTP answer in each part, as Google sends it.

Their header fields that hold addresses are mapped as those of an answer of its own; bodies pass untouched. In
a JSON batch the members that hold addresses are enough (``links.members``). Both ways a part's 401 is noted.
"""

import re
from collections.abc import Callable

from proxy.forwarding.links.addresses import AddressMap
from proxy.forwarding.links.fields import mapped_lines
from proxy.forwarding.links.members import Members, Names
from proxy.forwarding.links.rewriting import Changes, is_json
from proxy.forwarding.nested.multipart import boundary_of
from proxy.forwarding.nested.refused import Objects, Refused

_LONGEST_HEADS = 65_536  # bytes of a part's own fields and its answer's head; longer ones pass as they are
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class Answers:
    """Maps the addresses in the heads of one body's parts, piece by piece.

    Held back is at most the heads of one part. The pieces make no difference to the result.

    Args:
        boundary: of the body.
        addresses: what becomes of them.
        here: the origin that answered, for references without one.
        refused: told of the parts' statuses.
    """

    __slots__ = ("_addresses", "_at_heads", "_delimiter", "_here", "_kept", "_refused")

    def __init__(self, boundary: bytes, addresses: AddressMap, here: bytes, refused: Refused) -> None:
        self._refused = refused
        self._delimiter = b"--" + boundary
        self._addresses = addresses
        self._here = here
        self._kept = b""
        self._at_heads = False

    def feed(self, piece: bytes) -> bytes:
        """What can be passed on now."""
        data, self._kept = self._kept + piece, b""
        made: list[bytes] = []
        while data:
            step = self._heads if self._at_heads else self._body
            passed, data, waits = step(data)
            made.append(passed)
            if waits:
                self._kept = data
                break
        return b"".join(made)

    def flush(self) -> bytes:
        """The rest, at the end of the body."""
        rest, self._kept = self._kept, b""
        return rest

    def _body(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Pass everything up to the next delimiter."""
        at = data.find(self._delimiter)
        if at < 0:
            keep = max(0, len(data) - len(self._delimiter) + 1)
            return data[:keep], data[keep:], True
        end = at + len(self._delimiter)
        self._at_heads = True
        return data[:end], data[end:], False

    def _heads(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Map a part's two heads, once both are there."""
        first = _BLANK_LINE.search(data)
        second = None if first is None else _BLANK_LINE.search(data, first.end())
        next_one = data.find(self._delimiter)
        end = -1 if second is None else second.end()
        if next_one >= 0 and not 0 <= end <= next_one:
            end = next_one
        if end < 0 and len(data) <= _LONGEST_HEADS:
            return b"", data, True
        self._at_heads = False
        if not 0 <= end <= _LONGEST_HEADS:
            return b"", data, False
        if first is not None:
            self._refused.note(data[first.end() : end])
        return b"\n".join(map(self._mapped, data[:end].split(b"\n"))), data[end:], False

    def _mapped(self, line: bytes) -> bytes:
        bare = line.removesuffix(b"\r")
        return mapped_lines(bare, self._addresses, self._here) + line[len(bare) :]


def answers_of(
    here: bytes, addresses: AddressMap, names: Names | None, refused: Refused
) -> Callable[[bytes], Changes | None]:
    """What the answers in a body go through, by its Content-Type; None for one that has no parts.

    Args:
        here: the origin that answered.
        addresses: what becomes of addresses.
        names: of the members of JSON that hold some.
        refused: told of the parts' statuses.
    """

    def made(content_type: bytes) -> Changes | None:
        if names is not None and is_json(content_type):
            return Objects(refused, Members(names, addresses))
        boundary = boundary_of(content_type)
        return None if boundary is None else Answers(boundary, addresses, here, refused)

    return made
