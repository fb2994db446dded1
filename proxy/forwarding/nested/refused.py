"""Answers inside an answer that say that the account's token was refused, though the whole says 200.

The status of a part says so, as that of an answer of its own (RFC 9110 §15.5.2); parts' bodies are not read.
"""

import json
import re

from proxy.forwarding.links.rewriting import Changes

UNAUTHORIZED = 401
_MOST_BYTES = 65_536  # of a JSON answer; one in which all parts were refused is far below
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] 401(?:[ \r\n]|\Z)")
_MAYBE = re.compile(rb"401(?![0-9])")


class Refused:
    """What was found: ``seen`` once a part was refused."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen = False

    def note(self, head: bytes) -> None:
        """Look at the head of a part's answer."""
        self.seen = self.seen or _STATUS_LINE.match(head) is not None


class Objects:
    """Looks at a JSON answer: an object with an array ``responses`` (OData JSON Format 4.01 §19.6).

    Args:
        refused: told of what is found.
        then: what the answer goes through besides.
    """

    __slots__ = ("_kept", "_refused", "_then")

    def __init__(self, refused: Refused, then: Changes) -> None:
        self._refused = refused
        self._then = then
        self._kept: bytearray | None = bytearray()

    def feed(self, piece: bytes) -> bytes:
        """What can be passed on now."""
        kept = self._kept
        if kept is not None:
            kept += piece
            if len(kept) > _MOST_BYTES:
                self._kept = None
        return self._then.feed(piece)

    def flush(self) -> bytes:
        """The rest, at the end of the body."""
        if self._kept is not None and _MAYBE.search(self._kept) is not None:
            self._refused.seen = _has_refused(bytes(self._kept))
        return self._then.flush()


def _has_refused(body: bytes) -> bool:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    responses = document.get("responses") if isinstance(document, dict) else None
    if not isinstance(responses, list):
        return False
    return any(isinstance(one, dict) and one.get("status") in {UNAUTHORIZED, "401"} for one in responses)
