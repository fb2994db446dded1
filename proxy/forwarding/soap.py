"""The session in a SOAP request: ``Envelope/Header/SessionHeader/sessionId``, and nowhere else. Pure.

Only there a key is taken for one, and only there it becomes the account's token: an element of that name in
the Body, a comment or CDATA is data, in which a token could be stored and read back. A document type, another
encoding than UTF-8, and two sessions are refused.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape

from proxy.errors import AmbiguousKey, BadRequest, CredentialPath

_TYPES = frozenset({b"text/xml", b"application/soap+xml", b"application/xml"})
_ABOVE = ("Envelope", "Header", "SessionHeader")
_BODY = ("Envelope", "Body")


class Session(NamedTuple):
    """What a request says. ``calls``: the elements in its Body.

    ``value``: of its session, which stands from ``start`` to ``end``; None: it has none.
    """

    value: bytes | None
    start: int
    end: int
    calls: frozenset[str]


def is_soap(content_type: bytes) -> bool:
    """True when a body of that type is XML."""
    return content_type.partition(b";")[0].strip().lower() in _TYPES


class _Reader:
    """Collects the session while expat reads."""

    def __init__(self, name: str) -> None:
        self._place = (*_ABOVE, name)
        self._path: list[str] = []
        self.spans: list[tuple[int, int]] = []
        self.calls: list[str] = []
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = _refuse
        self._parser.XmlDeclHandler = _declared
        self._after = 0

    def read(self, body: bytes) -> None:
        self._parser.Parse(body, True)

    def _start(self, name: str, _: object) -> None:
        local = name.rpartition(" ")[2]
        if tuple(self._path) == _BODY:
            self.calls.append(local)
        self._path.append(local)
        if tuple(self._path) == self._place:
            self._after = self._parser.CurrentByteIndex

    def _end(self, _: str) -> None:
        if tuple(self._path) == self._place:
            self.spans.append((self._after, self._parser.CurrentByteIndex))
        self._path.pop()


def _refuse(*_: object) -> None:
    raise BadRequest("a SOAP request has no document type")


def _declared(_: str, encoding: str | None, __: int) -> None:
    if encoding is not None and encoding.lower() != "utf-8":
        raise BadRequest("a SOAP request is in UTF-8")


def session_of(body: bytes, name: str) -> Session:
    """The session in a request.

    Args:
        body: the whole of it.
        name: of the element.

    Raises:
        BadRequest: it is not well-formed, or has two sessions.
    """
    reader = _Reader(name)
    try:
        body.decode()
        reader.read(body)
    except (expat.ExpatError, UnicodeDecodeError):
        raise BadRequest("the SOAP request is not well-formed XML in UTF-8") from None
    calls = frozenset(reader.calls)
    if not reader.spans:
        return Session(None, 0, 0, calls)
    start, end = reader.spans[0]
    start = body.index(b">", start) + 1
    value = body[start:end]
    if len(reader.spans) > 1 or start > end or b"<" in value or b"&" in value:
        raise BadRequest("the session of the SOAP request is not one plain text")
    return Session(value.strip(), start, end, calls)


def with_token(
    body: bytes, name: str, *, closed: Collection[str], key: bytes, token: Callable[[], str]
) -> bytes:
    """The request with the account's token in place of the key; as it is where it has no session.

    Args:
        body: the whole of it.
        name: of the element.
        closed: calls that make, change or revoke credentials.
        key: the caller's.
        token: gives the account's token.

    Raises:
        BadRequest: as :func:`session_of`. AmbiguousKey: another credential stands there.
        CredentialPath: one of the closed calls is in it.
    """
    value, start, end, calls = session_of(body, name)
    if not calls.isdisjoint(closed):
        raise CredentialPath("this call makes, changes or revokes credentials: it is closed to every key")
    if not value:
        return body
    if value != key:
        raise AmbiguousKey("two different credentials: the session of the SOAP request is not the proxy key")
    return body[:start] + escape(token()).encode() + body[end:]
