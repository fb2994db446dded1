"""A request's body on its way to a service: sent as it arrives, its beginning kept for a replay (R63)."""

import asyncio
from dataclasses import dataclass

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.errors import BadRequest, BodyTooLarge, RequestError, RequestTimeout, UpstreamError
from proxy.forwarding.caller import CONTINUE, CallerConnection
from proxy.forwarding.form import refuse_key
from proxy.forwarding.gate import Head
from proxy.forwarding.upstream import UpstreamConnection

END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """``bytes``: most a request body may have; ``idle_s``: seconds between two pieces of it; 0: no limit.

    ``replay_bytes``: how much of a body that has been sent is kept, in case the token was refused.
    """

    bytes: int = 0
    idle_s: float = 60.0
    replay_bytes: int = 65_536


class Upload:
    """Sends the body to one connection, and after a refusal once more to another.

    ``replayable``: everything of it is at hand, sent and kept or not read yet. ``size``: bytes that came.

    Args:
        head: of the request; it has a body.
        payload: where the body comes from.
        caller: who sends it.
        limits: see BodyLimits.
        body: the whole of it, when it was read already.
        rest: ``body`` is the beginning only, and more comes from ``payload``.
        watch: the caller's key; a body in which it stands is stopped.
    """

    __slots__ = (
        "_before",
        "_caller",
        "_continued",
        "_ended",
        "_head",
        "_kept",
        "_limits",
        "_payload",
        "_task",
        "_watch",
        "size",
    )

    def __init__(
        self,
        head: Head,
        payload: StreamReader,
        caller: CallerConnection,
        limits: BodyLimits,
        *,
        body: bytes | None = None,
        rest: bool = False,
        watch: bytes | None = None,
    ) -> None:
        self._head = head
        self._payload = payload
        self._caller = caller
        self._limits = limits
        self._watch = watch
        self._before = body[-len(watch) :] if body and watch else b""
        self._kept: bytes | bytearray | None = b"" if body is None else body
        self._ended = body is not None and not rest
        self._continued = body is not None
        self._task: asyncio.Task[None] | None = None
        self.size = 0 if body is None else len(body)

    @property
    def replayable(self) -> bool:
        """See the class."""
        return self._kept is not None

    def start(self, connection: UpstreamConnection, outgoing: bytes) -> None:
        """Write the head and what is there of the body; what is still coming streams in a task of its own.

        Raises:
            UpstreamUnreachable: the connection has closed; nothing was sent.
            BodyTooLarge, BadRequest: of a body that is there already.
        """
        head, payload = self._head, self._payload
        data = bytes(self._kept or b"")
        if not self._ended and payload.is_eof() and payload.exception() is None:
            piece = payload.read_nowait(-1) if payload is not EMPTY_PAYLOAD else b""
            self._take(piece)
            self._ended = True
            data = data + piece if data else piece
        if head.body == "chunked":
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if self._ended:
                data += END_OF_CHUNKS
        connection.send(head.method, outgoing + data, uploading=not self._ended)
        if self._ended:
            return
        if head.expects_continue and not self._continued:
            self._continued = True
            self._caller.write(CONTINUE)
        self._task = asyncio.get_running_loop().create_task(self._stream(connection))

    def forget(self) -> None:
        """The request will not be sent again: nothing of it needs to be kept."""
        self._kept = None

    def cancel(self) -> None:
        """Stop sending."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Stop sending and wait until nothing more is taken from the caller."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def _take(self, piece: bytes) -> None:
        """Check and keep what was read, before anything waits: kept and unread make up the whole body."""
        self.size += len(piece)
        if self._limits.bytes and self.size > self._limits.bytes:
            raise BodyTooLarge(f"the request body is larger than {self._limits.bytes} bytes")
        if self._watch is not None:
            seen = self._before + piece
            refuse_key(seen, self._watch)
            self._before = seen[-len(self._watch) :]
        kept = self._kept
        if kept is None:
            return
        if self.size > self._limits.replay_bytes:
            self._kept = None
        elif not kept:
            self._kept = piece
        else:
            self._kept = kept if isinstance(kept, bytearray) else bytearray(kept)
            self._kept += piece

    async def _stream(self, connection: UpstreamConnection) -> None:
        """Pass the body on, piece by piece; on trouble fail the exchange with what went wrong."""
        try:
            await self._pass_on(connection)
        except UpstreamError:
            return  # the answer may be there already (an early 413); waiting for the head tells
        except TimeoutError:
            self._fail(connection, RequestTimeout("the request body did not arrive in time"))
        except RequestError as error:
            self._fail(connection, error)
        except ConnectionError:
            self._kept = None
            connection.abort()
        except Exception:  # noqa: BLE001  # the parser's payload errors have no common base
            self._fail(connection, BadRequest("the request body is not well-formed"))
        else:
            connection.upload_finished()

    async def _pass_on(self, connection: UpstreamConnection) -> None:
        loop = asyncio.get_running_loop()
        idle = self._limits.idle_s
        chunked = self._head.body == "chunked"
        async with asyncio.timeout(None) as timer:
            while True:
                timer.reschedule(loop.time() + idle if idle else None)
                piece = await self._payload.readany()
                if not piece:
                    break
                self._take(piece)
                timer.reschedule(None)  # from here it is the service's time, which the pool watches
                await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            timer.reschedule(None)
            self._ended = True
            if chunked:
                await connection.write(END_OF_CHUNKS)

    def _fail(self, connection: UpstreamConnection, error: RequestError) -> None:
        self._kept = None
        connection.expire(error)
