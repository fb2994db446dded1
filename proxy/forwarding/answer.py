"""Reads one upstream answer after another from bytes, without a socket (sans-I/O).

llhttp (httptools) cuts the bytes into tokens; framing, truncation and what may follow are decided here and in
``framing``. Ordinary answers (``framing.plain_head``) are read without it.
"""

import sys

import httptools
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import RequestError, UpstreamProtocol
from proxy.forwarding.framing import AnswerHead, Plan, answer_head, check_trailers, plain_head, plan_of
from proxy.forwarding.handshake import SWITCHED
from proxy.forwarding.headers import Field
from proxy.forwarding.headroom import Fields
from proxy.forwarding.switched import switched_head

MAX_HEAD_BYTES = 262_144  # the largest known services stay below half; R52 asks for 64 KiB and 200 fields
MAX_FIELDS = 1_000
MAX_INTERIM = 16  # 1xx answers before the final one
_FIRST_INTERIM, _FIRST_FINAL = 100, 200
_NO_END = sys.maxsize  # of what follows a switch of protocols: bytes up to the end of the connection
_END = b"\r\n\r\n"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class AnswerReader:
    """The reading side of one connection.

    ``head``: of the final answer, once it is whole. ``complete``: the answer is whole. ``fault``: it will
    never be. ``extra``: bytes came that belong to no answer asked for. ``size``: body bytes waiting to be
    taken.
    """

    __slots__ = (
        "_behind",
        "_head_raw",
        "_interim",
        "_left",
        "_method",
        "_names",
        "_parsed",
        "_parser",
        "_parts",
        "_plan",
        "_quiet",
        "_reason",
        "_spent",
        "_switches",
        "_tail",
        "_values",
        "complete",
        "extra",
        "fault",
        "head",
        "size",
        "trailers",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._spent = False
        self._plan: Plan | None = None
        self._parse_afresh()
        self.begin(b"")

    def begin(self, method: bytes, *, switches: bool = False) -> None:
        """Get ready for the answer to a request with ``method``; ``switches``: 101 to a WebSocket is one."""
        if self._parsed:
            self._parse_afresh()
        self._method = method
        self._switches = switches
        self._parts: list[bytes] = []
        self._left: int | None = None
        self.size = 0
        self.head: AnswerHead | None = None
        self.complete = self.extra = False
        self.fault: RequestError | None = None

    def _parse_afresh(self) -> None:
        """Forget what only answers that llhttp reads leave behind."""
        self._parsed = False
        self._head_raw = b""
        self._interim = 0
        self._names: list[bytes] = []
        self._values: list[bytes] = []
        self._reason = b""
        self._behind = self._quiet = 0
        self._tail = b""
        self.trailers: list[Field] = []

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The fields of the final answer as the service sent them, for looking up by name."""
        pairs = zip(self._names, self._values, strict=True)
        return CIMultiDictProxy(CIMultiDict([(n.decode("latin-1"), v.decode("latin-1")) for n, v in pairs]))

    @property
    def fields(self) -> Fields:
        """Names and values of the final answer's fields; the lists of an answer never change later."""
        return self._names, self._values

    def feed(self, data: bytes) -> None:
        """Read some bytes; look at the attributes afterwards. After ``complete`` any byte is ``extra``."""
        if self.complete:
            self.extra = True
            return
        if self._left is not None:
            self._read(data, self._left)
            return
        if self.head is None and not self._head_raw and self._begins_plainly(data):
            return
        if not self._parsed:
            self._parsed = True
            self._names, self._values = [], []  # those of an ordinary head belong to its plan
        size = self.size
        if self.head is None:
            self._head_raw = self._head_raw + data if self._head_raw else data
        else:
            self._behind += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._switched(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._spoil("the service's answer is not well-formed HTTP/1.1")
        else:
            if self._switches and self.head is not None and self.head.status == SWITCHED:
                self.head = None  # llhttp takes its fields for something else than we do
                self._spoil("the service switched protocols unclearly")
        self._check(data, grown=self.size > size)

    def _switched(self, behind: bytes) -> None:
        """HTTP has ended, with a 101; what follows stands for itself."""
        if self.head is None or self.head.status != SWITCHED:
            self._spoil("the service switched protocols without being asked")
            return
        self._spent = True
        self._read(behind, _NO_END)

    def _begins_plainly(self, data: bytes) -> bool:
        """Read an ordinary head and the body of known length behind it, without llhttp; False: not one."""
        plan = self._plan
        found = None if plan is None else plain_head(plan, data, self._method)
        if plan is None or found is None or found[2] > MAX_HEAD_BYTES:
            return False
        self.head, self._values, end = found
        self._names = plan.names
        self._read(data[end:], (self.head.length or 0) if self.head.body == "length" else 0)
        return True

    def _read(self, data: bytes, left: int) -> None:
        """Some bytes behind an ordinary head, of whose body ``left`` bytes have not come."""
        self._left = left - len(data)
        if self._left <= 0:
            self.complete = True
            if self._left < 0:
                self.extra = True
                data = data[:left]
        if data:
            self._parts.append(data)
            self.size += len(data)

    def feed_eof(self) -> None:
        """The service ended the connection in order: that ends a body which has no other end."""
        if self.head is not None and self.head.body == "eof" and self.fault is None:
            self.complete = True

    def take(self) -> bytes:
        """The body bytes read since the last call."""
        parts, self._parts, self.size = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def peek(self) -> bytes:
        """The body bytes that :meth:`take` would give; they stay."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    def value(self, name: bytes) -> bytes:
        """The field of that lower-case name in the final head; empty when there is none or more than one."""
        found = [value for key, value in zip(self._names, self._values, strict=True) if key.lower() == name]
        return found[0] if len(found) == 1 else b""

    def finish(self) -> None:
        """The exchange is over: llhttp starts afresh where it waits for something else than the next answer.

        That is the body which an answer to HEAD does not have, or the end of the connection because of a
        ``Proxy-Connection``, or a ``Connection`` among the trailers, which mean nothing (RFC 9110 §6.5.1).
        """
        if self._spent or self._method == b"HEAD":
            self._parser = httptools.HttpResponseParser(self)
            self._spent = False

    def _check(self, data: bytes, *, grown: bool) -> None:
        """What llhttp lets pass: heads and trailers of any size, and line ends behind an answer (R22, R48).

        Args:
            data: what has been read.
            grown: some of it was body.
        """
        head = self.head
        if head is None:
            if len(self._head_raw) > MAX_HEAD_BYTES:
                self._spoil("the head of the service's answer is too large")
        elif head.body == "chunked":
            self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]  # noqa: PLR2004  # see below
            if self.complete:  # the end is CRLF CRLF behind a size or a trailer, which do not end in CR or LF
                end = self._tail[1:]
                self.extra = self.extra or end != b"\r\n\r\n" or self._tail[:1] in {b"\r", b"\n"}
            self._quiet = 0 if grown else self._quiet + len(data)
            if self._quiet > MAX_HEAD_BYTES:
                self._spoil("the trailer section of the service's answer is too large")
        elif self.complete:
            self.extra = self.extra or self._behind > (head.length or 0 if head.body == "length" else 0)

    def _spoil(self, detail: str) -> None:
        if self.complete:
            self.extra = True
        elif self.fault is None:
            self.fault = UpstreamProtocol(detail)

    # --- tokens, from llhttp --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A message begins; after the final one that is a byte too many."""
        if self.complete:
            self.extra = True
        elif self._interim:
            self._names, self._values, self._reason = [], [], b""

    def on_status(self, reason: bytes) -> None:
        """A piece of the reason phrase."""
        if not self.complete:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head, or of the trailer section."""
        if self.head is None:
            self._names.append(name)
            self._values.append(value)
        elif not self.complete:
            self.trailers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole: interim answers are dropped (R49), the final one is checked and kept."""
        if self.complete or self.fault is not None:
            return
        status = self._parser.get_status_code()
        switched = status == SWITCHED and self._switches
        if _FIRST_INTERIM <= status < _FIRST_FINAL and not switched:
            self._interim_head(status)
            return
        if len(self._names) > MAX_FIELDS:
            self._spoil("the service's answer has too many header fields")
            return
        raw, self._head_raw = self._head_raw, b""
        end = 0
        for _ in range(self._interim + 1):
            if not raw.startswith(b"HTTP/1.", end):  # llhttp takes RTSP and ICE for HTTP
                self._spoil("the service answered with another protocol than HTTP/1")
                return
            end = raw.find(_END, end) + len(_END)
        self._behind = len(raw) - end
        if b" \r\n" in raw or b"\t\r\n" in raw:
            self._values = [value.rstrip(b" \t") for value in self._values]
        try:
            self.head = self._switched_head() if switched else self._final_head(status)
        except UpstreamProtocol as error:
            self.fault = error
            return
        if switched:
            return
        self._plan = plan_of(self._names)  # the next answer on this connection may well look alike
        if self.head.body == "none":
            self.complete = True

    def _interim_head(self, status: int) -> None:
        self._interim += 1
        if any(name.lower() in _FRAMING for name in self._names):
            self._spoil("the service sent an interim answer with a body")
        elif status == SWITCHED:
            self._spoil("the service switched protocols without being asked")
        elif self._interim > MAX_INTERIM:
            self._spoil("the service sent too many interim answers")

    def _final_head(self, status: int) -> AnswerHead:
        return answer_head(
            version=self._parser.get_http_version(),
            status=status,
            reason=self._reason,
            names=self._names,
            values=self._values,
            method=self._method,
        )

    def _switched_head(self) -> AnswerHead:
        if self._parser.get_http_version() != "1.1":
            raise UpstreamProtocol("the service switched protocols in another version than HTTP/1.1")
        return switched_head(reason=self._reason, names=self._names, values=self._values)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            self.extra = True
        elif self.head is not None:
            self._parts.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        """A message has ended: an interim one, or the final one."""
        self._spent = self._spent or not self._parser.should_keep_alive()
        if self.complete or self.head is None or self.fault is not None or self.head.status == SWITCHED:
            return
        if self.trailers:
            try:
                if len(self.trailers) > MAX_FIELDS:
                    self._spoil("the service's answer has too many trailer fields")
                check_trailers(self.trailers)
            except UpstreamProtocol as error:
                self.fault = error
        self.complete = self.fault is None
