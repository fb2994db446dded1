"""The way to token endpoints: one fresh connection a request, bounded in time and size, sent once.

aiohttp's session under the egress rules that the connector brings (R81, R82): no cookies, no redirects, no
proxy variables. A connection is never used twice, so whether a request left is known from it alone.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from proxy.catalog.model import Service
from proxy.connectors.oauth.answers import Grant, read_answer
from proxy.connectors.oauth.bodies import MAX_BODY, UnreadableError, read_document, unpack
from proxy.connectors.oauth.faults import NotSent, OutcomeUnknown
from proxy.connectors.oauth.messages import Outgoing

LIMIT_S = 15.0
CONNECT_S = 10.0
_CHUNK = 65536
_OK = range(200, 300)


@dataclass(slots=True)
class _Progress:
    """How far a request got; ``left`` is set before its first byte goes out."""

    left: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Without ``is_framed`` nothing told its end, so it may be cut (RFC 9112 §6.3)."""

    status: int
    content_type: str
    coding: str
    retry_after: str
    is_framed: bool
    body: bytes = field(repr=False)

    @property
    def may_be_cut(self) -> bool:
        """True when its end is unknown and does not show: JSON objects end with a brace, forms anywhere."""
        return not self.is_framed and not self.body.rstrip().endswith(b"}")


class NoAnswerError(Exception):
    """Nobody answered, or not to the end; its text is safe to show."""


class _TooLargeError(Exception):
    """The answer is over ``MAX_BODY``."""


class TokenEndpoint:
    """Asks providers for tokens, and tells them that a grant is over.

    Args:
        make_connector: an endpoint's address -> a connector that obeys the egress rules.
        clock: seconds since the epoch.
        limit_s: hard limit of one request, from look-up to the answer's last byte.
    """

    def __init__(
        self,
        make_connector: Callable[[str], aiohttp.BaseConnector],
        clock: Callable[[], float],
        *,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._make_connector = make_connector
        self._clock = clock
        self._limit_s = limit_s
        self._closed = False
        self._tracing = aiohttp.TraceConfig()
        self._tracing.on_request_headers_sent.append(_note_leaving)
        self._tracing.freeze()

    async def ask(self, service: Service, outgoing: Outgoing) -> Grant:
        """Send a token request once, and read what comes.

        Cancelling ends the exchange at once; whether the provider carried it out is then not known.

        Raises:
            TokenFault: no grant; ``NotSent`` only when no byte of the request left.
        """
        sent_at = self._clock()
        progress = _Progress()
        try:
            async with asyncio.timeout(self._limit_s):
                reply = await self._exchange(outgoing, progress)
        except _TooLargeError:
            raise OutcomeUnknown(f"the answer of {service.title}'s token endpoint is too large") from None
        except (aiohttp.ClientError, OSError) as error:
            kind = OutcomeUnknown if progress.left else NotSent
            raise kind(_what(service, error, left=progress.left)) from None
        if reply.status in _OK and reply.may_be_cut:
            raise OutcomeUnknown(f"the answer of {service.title}'s token endpoint may be cut short")
        return read_answer(
            service,
            reply.status,
            reply.content_type,
            reply.body,
            sent_at=sent_at,
            refreshed=outgoing.kind == "refresh",
            retry_after=reply.retry_after,
            coding=reply.coding,
        )

    async def tell(self, outgoing: Outgoing, *, timeout_s: float = 5.0) -> bool:
        """Send a revocation; True when the provider accepted it: 2xx, and no error inside."""
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._exchange(outgoing, _Progress())
        except (_TooLargeError, aiohttp.ClientError, OSError):
            return False
        if reply.status not in _OK:
            return False
        try:
            document = read_document(reply.content_type, unpack(reply.body, reply.coding))
        except UnreadableError:
            return True
        return document.get("ok") is not False and not document.get("error")

    async def fetch(self, outgoing: Outgoing) -> tuple[int, dict[str, Any]]:
        """Send a request that belongs to no service once; status and document of the answer.

        A refusal that holds no document has an empty one.

        Raises:
            NoAnswerError: no whole answer came.
            UnreadableError: what should be a document is none.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                reply = await self._exchange(outgoing, _Progress())
        except _TooLargeError:
            raise UnreadableError(f"is over {MAX_BODY} bytes") from None
        except (aiohttp.ClientError, OSError) as error:
            host = URL(outgoing.url).host
            raise NoAnswerError(f"no answer came from {host} ({type(error).__name__})") from None
        document: dict[str, Any] = {}
        fault = "may be cut short" if reply.may_be_cut else ""
        try:
            document = read_document(reply.content_type, unpack(reply.body, reply.coding))
        except UnreadableError as error:
            fault = str(error)
        if fault and reply.status in _OK:
            raise UnreadableError(fault)
        return reply.status, document

    async def close(self) -> None:
        """Refuse further requests; those under way are their callers' to await."""
        self._closed = True

    async def _exchange(self, outgoing: Outgoing, progress: _Progress) -> Reply:
        if self._closed:
            raise ConnectionAbortedError("the process is shutting down")
        async with (
            aiohttp.ClientSession(
                connector=self._make_connector(outgoing.url),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
                trace_configs=[self._tracing],
            ) as session,
            session.request(
                outgoing.method,
                URL(outgoing.url, encoded=True),
                data=outgoing.body or None,
                headers={
                    "User-Agent": "connector-proxy",
                    "Accept-Encoding": "identity",
                    "Connection": "close",
                    **outgoing.headers,
                },
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as answer,
        ):
            told = answer.headers
            return Reply(
                answer.status,
                told.get("Content-Type", ""),
                told.get("Content-Encoding", ""),
                told.get("Retry-After", ""),
                "Content-Length" in told or "Transfer-Encoding" in told,
                await _bounded(answer.content),
            )


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    parts = bytearray()
    async for chunk in content.iter_chunked(_CHUNK):
        parts += chunk
        if len(parts) > MAX_BODY:
            raise _TooLargeError
    return bytes(parts)


async def _note_leaving(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.left = True


def _what(service: Service, error: Exception, *, left: bool) -> str:
    """One sentence; the error's own text may hold addresses, so only its type is told."""
    if left:
        kind = "no answer in time" if isinstance(error, TimeoutError) else "the connection broke"
        return f"the token request to {service.title} left, and {kind} ({type(error).__name__})"
    return f"the token endpoint of {service.title} cannot be reached ({type(error).__name__})"
