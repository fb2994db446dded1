"""Batches of requests in a JSON object, as Microsoft Graph takes them (OData JSON Format 4.01 §19).

``{"requests": [{"id", "method", "url", "headers", "body", "dependsOn"}, ...]}``. Some servers compare names
without regard to case, and of two equal ones the first or the last may count: so every name has to be one
of these, once, in exactly this spelling. Only what changes is replaced; numbers, blanks, escapes and the
order of members keep their bytes.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from proxy.errors import BadRequest
from proxy.forwarding.headers import Field
from proxy.forwarding.nested.parts import Inner, Outer, numbered
from proxy.forwarding.nested.spans import Member, elements, members, skip, text_of

_MEDIA = re.compile(rb"application/json(?:[ \t]*;[^;]*)*", re.IGNORECASE)
_MEMBERS = frozenset(
    {"id", "method", "url", "headers", "body", "dependsOn", "depends_on"}
)  # the last is msgraph-core's spelling, which Graph overlooks
_METHOD = re.compile(r"[A-Z]{1,32}")
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_SILENT = frozenset({"content-length", "host"})  # fields of a request of its own; in a part they say nothing
# What the head of a request of its own has in any case, or for its connection only.
_NEVER_KEPT = frozenset({b"host", b"accept-encoding", b"connection", b"te"})


class _Part(NamedTuple):
    """Where a request's values stand; ``fields``: the members of ``headers``."""

    inner: Inner
    url: Member
    headers: Member | None
    fields: tuple[Member, ...]
    body: Member | None


@dataclass(frozen=True, slots=True)
class Objects:
    """A batch that was read. ``root``: the path that addresses in it are relative to."""

    text: str
    root: bytes
    parts: tuple[_Part, ...]

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The requests, in order."""
        return tuple(part.inner for part in self.parts)

    def written(self, outers: Sequence[Outer]) -> bytes:
        """The batch with the values replaced that have to be."""
        made: list[str] = []
        gone = 0
        for number, (part, outer) in enumerate(zip(self.parts, outers, strict=True), 1):
            with numbered(number):
                edits = sorted(self._edits(part, outer))
            for start, end, new in edits:
                made += (self.text[gone:start], new)
                gone = end
        return "".join([*made, self.text[gone:]]).encode()

    def _edits(self, part: _Part, outer: Outer) -> Iterator[tuple[int, int, str]]:
        if not outer.path.startswith(self.root + b"/"):
            raise BadRequest(f"its address is not below {self.root.decode()}, as those of this batch are")
        target = outer.target[len(self.root) :].decode("ascii")
        if part.url.value != target and "/" + part.url.value != target:
            yield part.url.at, part.url.after, json.dumps(target)
        sent = {line.partition(b":")[0].lower() for line in outer.head.split(b"\r\n")[1:]} - _NEVER_KEPT
        kept = [one for one in part.fields if one.name.lower().encode() in sent]
        if part.headers is not None and len(kept) < len(part.fields):
            left = ",".join([self.text[one.start : one.end] for one in kept])
            yield part.headers.at, part.headers.after, "{" + left + "}"
        if part.body is not None and outer.body is not None and outer.body != part.inner.body:
            yield part.body.at, part.body.after, outer.body.decode()


def root_of(path: bytes) -> bytes:
    """What addresses in a batch sent to ``path`` are relative to."""
    return path.rpartition(b"/")[0]


def read(content_type: bytes, body: bytes, *, path: bytes, most: int) -> Objects:
    """The batch in a body.

    Args:
        content_type: of the request.
        body: the whole of it.
        path: upstream, that it is sent to.
        most: parts in one.

    Raises:
        BadRequest: it is not one, or has two readings.
    """
    if _MEDIA.fullmatch(content_type) is None:
        raise BadRequest("a batch of this service is 'application/json'")
    text = text_of(body)
    top, after = members(text, skip(text, 0))
    if [member.name for member in top] != ["requests"] or skip(text, after) != len(text):
        raise BadRequest("a batch is an object with the one member 'requests'")
    found, _ = elements(text, top[0].at)
    if not 0 < len(found) <= most:
        raise BadRequest(f"a batch of this service has 1 to {most} parts")
    parts: list[_Part] = []
    ids: set[str] = set()
    for number, element in enumerate(found, 1):
        with numbered(number):
            parts.append(_read_part(text, element.at, ids))
    return Objects(text, root_of(path), tuple(parts))


def _read_part(text: str, at: int, ids: set[str]) -> _Part:
    given = {member.name: member for member in members(text, at)[0]}
    if not given.keys() <= _MEMBERS:
        raise BadRequest("it has a member that is not one of id, method, url, headers, body, dependsOn")
    name = _text(given, "id")
    if name.lower() in ids:
        raise BadRequest("another part has the same id")
    ids.add(name.lower())
    method = _text(given, "method")
    if _METHOD.fullmatch(method) is None:
        raise BadRequest("its method is not one in capital letters")
    for listed in ("dependsOn", "depends_on"):
        value = given[listed].value if listed in given else None
        if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise BadRequest(f"its {listed} is not a list of ids")
    headers = given.get("headers")
    fields: tuple[Member, ...] = ()
    if headers is not None and headers.value is not None:
        fields, _ = members(text, headers.at)
    body = given.get("body")
    if body is not None and body.value is None:
        body = None
    inner = Inner(
        method.encode(),
        _url(_text(given, "url")),
        tuple(_field(one) for one in fields if one.name.lower() not in _SILENT),
        None if body is None else text[body.at : body.after].encode(),
    )
    return _Part(inner, given["url"], headers, fields, body)


def _text(given: dict[str, Member], name: str) -> str:
    value = given[name].value if name in given else None
    if not isinstance(value, str) or not value:
        raise BadRequest(f"its {name} is missing, or is not a text")
    return value


def _url(text: str) -> bytes:
    """The address, with spaces and other letters encoded, which Graph takes as they are too."""
    if _CONTROLS.search(text) is not None:
        raise BadRequest("its url has control characters")
    try:
        return quote(text, safe=_ASCII).encode()
    except UnicodeEncodeError:
        raise BadRequest("its url is not a text") from None


def _field(member: Member) -> Field:
    if not isinstance(member.value, str) or not member.name.isascii():
        raise BadRequest("its headers are not names with texts")
    if member.name.lower() == "transfer-encoding":
        raise BadRequest("a part in JSON has no Transfer-Encoding")
    try:
        return member.name.encode(), member.value.strip(" \t").encode()
    except UnicodeEncodeError:
        raise BadRequest("its headers are not names with texts") from None
