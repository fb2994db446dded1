"""From the service to the caller: one body, re-framed, never held whole, truncated visibly if it breaks."""

import asyncio

from proxy.errors import RequestError
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.framing import trailer_lines
from proxy.forwarding.headers import Field
from proxy.forwarding.links.rewriting import Changes
from proxy.forwarding.scrub import Scrubber

LAST_CHUNK = b"0\r\n"


class Relay:
    """Writes a body to the caller as it arrives (``upstream.Sink``).

    Args:
        caller: where to write.
        chunked: frame with the chunked coding (RFC 9112 §7.1); else the bytes go out as they are.
        trailers: trailer names that may be passed on, lower case.
        scrubber: masks the account's token in the body; None where it is not looked for.
        members: maps the addresses in the body; None where they are not looked for.
    """

    __slots__ = ("_caller", "_chunked", "_members", "_scrubber", "_trailers", "bytes_out", "done", "error")

    def __init__(
        self,
        caller: CallerConnection,
        *,
        chunked: bool,
        trailers: frozenset[bytes],
        scrubber: Scrubber | None = None,
        members: Changes | None = None,
    ) -> None:
        self._caller = caller
        self._chunked = chunked
        self._trailers = trailers
        self._scrubber = scrubber
        self._members = members
        self.bytes_out = 0
        self.error: RequestError | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data(self, chunk: bytes) -> None:
        """Pass on some bytes of the body."""
        if self._members is not None:
            chunk = self._members.feed(chunk)
        if self._scrubber is not None:
            chunk = self._scrubber.feed(chunk)
        if chunk:
            self._pass_on(chunk)

    def _pass_on(self, chunk: bytes) -> None:
        self.bytes_out += len(chunk)
        self._caller.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    def end(self, trailers: list[Field]) -> None:
        """The body is whole: end the framing."""
        rest = self._members.flush() if self._members is not None else b""
        if self._scrubber is not None:
            rest = self._scrubber.feed(rest) + self._scrubber.flush()
        if rest:
            self._pass_on(rest)
        if self._chunked:
            self._caller.write(LAST_CHUNK + trailer_lines(trailers, self._trailers) + b"\r\n")
        self._finish()

    def broken(self, error: RequestError) -> None:
        """The body is cut: so is the connection to the caller (R45)."""
        self.error = error
        self._caller.abort()
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
