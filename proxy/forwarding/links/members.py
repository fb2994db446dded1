r"""Addresses in JSON, found in the bytes as they stream by; everything else stays byte for byte as it is.

Only the values of members that a service's file declares are looked at, only where they are strings, and
only at the beginning of these. No tree is built and no token is made of what does not matter: the scanner
goes from one ``"http`` to the next and reads the member's name backwards from there. That is sound because
of JSON's own grammar (RFC 8259): inside a string every quote has a backslash in front, so a quote behind a
colon without one opens a value, and the string before that colon is its name. A document that does not begin
with ``{`` or ``[`` passes unread.

Inside objects that are declared as a whole (``session_endpoints.*``) it goes from bracket to bracket, as it
has to know where they end.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from proxy.forwarding.headers import Memo
from proxy.forwarding.links.addresses import AddressMap, Found

LOOK_BACK = 1024  # bytes before a value within which its whole name must stand
LONGEST = 16_384  # bytes of a value; longer ones are no address that anybody would take
_DEEPEST = 256  # objects and arrays inside of each other, in an object declared as a whole

_BLANK = b" \t\r\n"
_BEFORE = _BLANK + b"\xef\xbb\xbf"
_ESCAPE = 24  # bytes of ``"http`` with every letter written as an escape, without its last byte
_END = re.compile(rb'(?:[^"\\]++|\\.)*+(")', re.DOTALL)
_UNIT = re.compile(rb"\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL)
_MAYBE_BEGUN = re.compile(rb'"[\\uhtpws0-9a-fA-F]*')
_BACKSLASH = 0x5C
_COLONS = frozenset({b":", b": "})  # as nearly everybody writes them
_BRACKET = re.compile(rb'[{}\[\]"]')


def _spelt(text: str) -> bytes:
    """A pattern for the text with any of its characters escaped."""
    return b"".join(rb"(?:%b|\\u(?i:%04x))" % (char.encode(), ord(char)) for char in text)


_LITERAL = b'"http'
_BEGIN = b'"' + _spelt("http")
_BEGIN_OR_SOCKET = b'"(?:%b|%b)' % (_spelt("http"), _spelt("ws"))
_ESCAPES = b"\\u00"
_ESCAPED = tuple(b"\\u%04x" % ord(char) for char in "htp")


class Names:
    """Names of members as a service's file declares them; ``*`` stands for any part of a name.

    ``parent.*``: all members of the object that is the member ``parent``. ``sockets``: their values may be
    addresses of WebSockets, too, which takes a slower search.
    """

    __slots__ = ("_begin", "_is_parent", "_is_wanted", "_parents", "sockets")

    def __init__(self, names: Iterable[str], *, sockets: bool = False) -> None:
        names = tuple(names)
        self.sockets = sockets
        parents = [name.removesuffix(".*") for name in names if name.endswith(".*")]
        self._is_wanted = _memo([name for name in names if not name.endswith(".*")])
        self._is_parent = _memo(parents)
        begin = _BEGIN_OR_SOCKET if sockets else _BEGIN
        self._begin = re.compile(begin + rb"|\{" if parents else begin)
        self._parents = tuple(b'"%b"' % parent.encode() for parent in parents)

    def begins(self, data: bytes, at: int) -> Iterator[tuple[int, int]]:
        """From ``at`` on, beginning and end of what may open a value or an object that counts."""
        if self._needs_care(data):
            yield from (hit.span() for hit in self._begin.finditer(data, at))
            return
        while (at := data.find(_LITERAL, at)) >= 0:  # ten times as fast, and hardly ever not enough
            yield at, at + len(_LITERAL)
            at += len(_LITERAL)

    def _needs_care(self, data: bytes) -> bool:
        """True when the literal beginning of an address may not be all that counts in the data."""
        if self.sockets:
            return True
        if _ESCAPES in data and (self._parents or any(escape in data for escape in _ESCAPED)):
            return True
        return any(parent in data for parent in self._parents)

    def wanted(self, raw: bytes | None) -> bool:
        """True when the values of members with this name (as it is written, without quotes) count."""
        return raw is not None and self._is_wanted[raw]

    def is_parent(self, raw: bytes | None) -> bool:
        """True when all members of an object with this name count."""
        return raw is not None and self._is_parent[raw]


def _memo(names: list[str]) -> Memo[bool]:
    pattern = "|".join(".*".join(map(re.escape, name.split("*"))) for name in names) if names else "(?!)"
    fits = re.compile(pattern, re.DOTALL).fullmatch

    def decide(raw: bytes) -> bool:
        text = _text(raw)
        return text is not None and fits(text) is not None

    return Memo(decide, longest=LOOK_BACK)


def _text(raw: bytes) -> str | None:
    """What is written between two quotes; None when it is no string."""
    try:
        return str(json.loads(b'"%b"' % raw)) if b"\\" in raw else raw.decode()
    except ValueError:
        return None


class Members:
    """Maps the addresses in one body, piece by piece.

    Held back is at most one value of up to ``LONGEST`` bytes. The pieces make no difference to the result.

    Args:
        names: whose values count.
        addresses: what becomes of them.
    """

    __slots__ = ("_addresses", "_at", "_begun", "_gone", "_kept", "_names", "_off", "_open")

    def __init__(self, names: Names, addresses: AddressMap) -> None:
        self._names = names
        self._addresses = addresses
        self._kept = b""
        self._gone = self._at = 0
        self._open: list[bool] = []
        self._begun = self._off = False

    def feed(self, piece: bytes) -> bytes:
        """What can be passed on now."""
        if not self._begun:
            first = piece.lstrip(_BEFORE)[:1]
            self._begun = bool(first)
            self._off = self._begun and first not in b"{["
        if self._off:
            return piece
        data = self._kept + piece if self._kept else piece
        made: list[bytes] = []
        held = None
        while held is None:
            held = self._in_parent(data, made) if self._open else self._between(data, made)
        return self._pass(data, made, held)

    def flush(self) -> bytes:
        """The rest, at the end of the body."""
        rest, self._kept = self._kept[self._gone :], b""
        return rest

    def _pass(self, data: bytes, made: list[bytes], held: int) -> bytes:
        """Pass everything before ``held``, keep what may be looked at again."""
        made.append(data[self._gone : held])
        keep = max(0, held - LOOK_BACK)
        if self._off:
            keep = held = len(data)
            made[-1] = data[self._gone :]
        self._kept = data[keep:]
        self._gone = held - keep
        self._at -= keep
        return made[0] if len(made) == 1 else b"".join(made)

    def _between(self, data: bytes, made: list[bytes]) -> int | None:
        """Go on to the end of the data, and say from where on it is held; None: into a whole object."""
        names = self._names
        for start, after in names.begins(data, self._at):
            self._at = after
            name = _name_before(data, start)
            if after - start == 1:  # a brace
                if names.is_parent(name):
                    self._open.append(True)
                    return None
            elif names.wanted(name):
                end = _end_of_string(data, start)
                if end is None and len(data) - start <= LONGEST:
                    self._at = start
                    return start
                if end is not None and end - start <= LONGEST:
                    self._map(data, start, end, made)
        quote = data.rfind(b'"', max(self._at, len(data) - _ESCAPE))
        held = quote if quote >= 0 and _MAYBE_BEGUN.fullmatch(data, quote) is not None else len(data)
        self._at = held
        return held

    def _in_parent(self, data: bytes, made: list[bytes]) -> int | None:
        """The same inside of objects that are declared as a whole; None: they have ended."""
        names, still_open = self._names, self._open
        while (hit := _BRACKET.search(data, self._at)) is not None:
            start = hit.start()
            self._at = start + 1
            mark = hit.group()
            if mark == b'"':
                end = _end_of_string(data, start)
                if end is None and len(data) - start <= LONGEST:
                    self._at = start
                    return start
                if end is None or end - start > LONGEST:
                    self._off = True
                    return len(data)
                name = _name_before(data, start)
                if name is not None and (still_open[-1] or names.wanted(name)):
                    self._map(data, start, end, made)
                self._at = end + 1
            elif mark in b"}]":
                still_open.pop()
                if not still_open:
                    return None
            elif len(still_open) >= _DEEPEST:
                self._off = True
                return len(data)
            else:
                still_open.append(mark == b"{" and names.is_parent(_name_before(data, start)))
        self._at = len(data)
        return len(data)

    def _map(self, data: bytes, start: int, end: int, made: list[bytes]) -> None:
        """Replace the value between the quotes at ``start`` and ``end``, if it is an address of ours."""
        addresses = self._addresses
        new = _mapped(data[start + 1 : end], addresses.find_any if self._names.sockets else addresses.find)
        if new is not None:
            made += (data[self._gone : start + 1], new)
            self._gone = end


def _end_of_string(data: bytes, start: int) -> int | None:
    """Where the quote is that closes the one at ``start``."""
    end = data.find(b'"', start + 1)
    if end < 0 or data.find(b"\\", start + 1, end) < 0:  # nothing is escaped in most addresses
        return None if end < 0 else end
    hit = _END.match(data, start + 1)
    return None if hit is None else hit.start(1)


def _name_before(data: bytes, start: int) -> bytes | None:
    """The name, as it is written, of the member whose value begins at ``start``; None: none does."""
    least = max(0, start - LOOK_BACK)
    closing = data.rfind(b'"', least, start)
    if closing < 0:
        return None
    between = data[closing + 1 : start]
    if between not in _COLONS and between.strip(_BLANK) != b":":
        return None
    if closing > least and data[closing - 1] == _BACKSLASH and _is_escaped(data, closing, least):
        return None
    opening = data.rfind(b'"', least, closing)
    while opening > least and data[opening - 1] == _BACKSLASH and _is_escaped(data, opening, least):
        opening = data.rfind(b'"', least, opening)
    return None if opening < 0 else data[opening + 1 : closing]


def _is_escaped(data: bytes, at: int, least: int) -> bool:
    """True when an odd number of backslashes stands in front."""
    first = at
    while first > least and data[first - 1] == _BACKSLASH:
        first -= 1
    return (at - first) % 2 == 1


def _mapped(raw: bytes, find: Callable[[bytes], Found | None]) -> bytes | None:
    """The new value, its slashes written as those of the old one; the part that stays keeps every byte."""
    if b"\\" not in raw:
        found = find(raw)
        return None if found is None else found.lead + raw[found.length :]
    text = _text(raw)
    found = find(text.encode()) if text is not None and text.isascii() else None
    if text is None or found is None:
        return None
    units = [unit.group() for unit in islice(_UNIT.finditer(raw), found.length)]
    slash = units[text.index("/")]
    return found.lead.replace(b"/", slash) + raw[sum(map(len, units)) :]
