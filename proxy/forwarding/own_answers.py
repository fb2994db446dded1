"""Answers that the proxy makes itself, as bytes on the caller's connection."""

from collections import defaultdict
from http import HTTPStatus

from proxy.catalog.model import Catalog
from proxy.errors import AccountError, RequestError
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.gate import Head
from proxy.problems import Answer, problem

HEALTH = b"/-/health"
OWN = frozenset({HEALTH, b"*"})  # targets that are about the proxy itself
_PHRASES = defaultdict(bytes, {status.value: status.phrase.encode() for status in HTTPStatus})


def about_the_proxy(head: Head, *, draining: bool) -> Answer | None:
    """The answer to what is asked of the proxy itself: health, and ``OPTIONS *`` (R12, R87); else None."""
    if head.target not in OWN:
        return None
    if head.is_asterisk:
        return Answer(204, ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),), b"")
    body = b'{"status":"draining"}' if draining else b'{"status":"ok"}'
    fields = (
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
    )
    return Answer(503 if draining else 200, fields, body)


def refusal(
    error: RequestError, catalog: Catalog, *, request_id: str, connect_base_url: str | None
) -> Answer:
    """The answer to a request that failed, in the service's own shape where its file declares one.

    Args:
        error: what went wrong.
        catalog: for the shape.
        request_id: finds the event in the log.
        connect_base_url: where a person connects accounts, None when nothing is served there.
    """
    service = catalog.services.get(error.service) if error.service else None
    account = isinstance(error, AccountError) and connect_base_url is not None
    return problem(
        error,
        request_id=request_id,
        plane="data",
        connect_url=f"{connect_base_url}/connect/{error.service}" if account else None,
        shape=service.errors if service is not None else None,
    )


def write(made: Answer, caller: CallerConnection, head: Head | None) -> None:
    """Write an answer; ``caller.keep`` says whether the connection goes on after it."""
    http10 = head is not None and head.http10
    lines = [b"HTTP/1.%d %d %b\r\n" % (0 if http10 else 1, made.status, _PHRASES[made.status])]
    lines += [b"%b: %b\r\n" % pair for pair in made.headers]
    if not caller.keep:
        lines.append(b"Connection: close\r\n")
    elif http10:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    if head is None or head.method != b"HEAD":
        lines.append(made.body)
    caller.write(b"".join(lines))
