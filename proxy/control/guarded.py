"""What all pages of the control plane stand behind: the Host is checked, headers set, failures told.

The check of the Host keeps a page in a browser from reaching us by a name that it made point here (DNS
rebinding); there is no CORS.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import IPv6Address

from aiohttp import hdrs, web

from proxy import log, problems
from proxy.errors import MethodNotAllowed
from proxy.forwarding.addresses import normalize_host, parse_address
from proxy.forwarding.front import Front

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SECURITY_HEADERS: Mapping[str, str] = {
    "Server": problems.PROXY_NAME,
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_OWN = frozenset({"Content-Security-Policy", "Cache-Control"})  # a page may know better


def guarded_app(allowed_hosts: Iterable[str], front: Front | None = None) -> web.Application:
    """An application without pages.

    Args:
        allowed_hosts: host names accepted besides localhost, 127.0.0.1, [::1] and the address that a
            request arrived at (a name can be made to point here, an address cannot).
        front: what stands in front of us; None: callers themselves come.
    """
    guard = _guard(LOOPBACK_HOSTS | {normalize_host(h) for h in allowed_hosts})
    app = web.Application(middlewares=[guard] if front is None else [guard, _called_by(front)])
    app.on_response_prepare.append(_secure)
    return app


def _guard(hosts: frozenset[str]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """First the Host, then the handler; every failure becomes a problem, none tells more than its row."""

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request_id = secrets.token_hex(8)
        if not _is_ours(request, hosts):
            return response_of(
                problems.plain(
                    problems.MISDIRECTED,
                    "the Host is none of control.allowed_hosts",
                    request_id=request_id,
                    plane="control",
                )
            )
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as refusal:
            allowed = ", ".join(sorted(refusal.allowed_methods))
            error = MethodNotAllowed(f"this address knows {allowed}")
            answer = response_of(problems.problem(error, request_id=request_id, plane="control"))
            answer.headers[hdrs.ALLOW] = allowed
            return answer
        except web.HTTPException:
            missing = problems.plain(
                problems.NOT_FOUND, "no such page", request_id=request_id, plane="control"
            )
            return response_of(missing)
        except Exception as error:  # noqa: BLE001  # the last line of defence: a traceback must not reach anybody
            log.crash("control_plane_failed", error, request_id=request_id)
            return response_of(problems.internal(request_id=request_id, plane="control"))

    return guard


def _called_by(front: Front) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Handlers see who calls as ``request.remote``."""
    field = front.field.decode()

    @web.middleware
    async def named(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        values = [value.encode("utf-8", "surrogateescape") for value in request.headers.getall(field, [])]
        return await handler(request.clone(remote=front.caller_of(request.remote or "", values)))

    return named


def _is_ours(request: web.Request, hosts: frozenset[str]) -> bool:
    given = request.headers.getall(hdrs.HOST, [])
    if len(given) != 1:
        return False
    head, colon, port = given[0].rpartition(":")
    name = head if colon and port.isascii() and port.isdigit() else given[0]
    bracketed = name.startswith("[") and name.endswith("]")
    try:
        host = normalize_host(name[1:-1] if bracketed else name)
    except ValueError:
        return False
    return (bracketed == (":" in host)) and (host in hosts or host == _arrived_at(request))


def _arrived_at(request: web.Request) -> str | None:
    """The address of this end of the connection; None on a unix socket."""
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    address = parse_address(str(name[0])) if isinstance(name, tuple) else None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return None if address is None else str(address)


def response_of(answer: problems.Answer) -> web.Response:
    """An answer of ``problems`` as aiohttp sends it."""
    headers = [(name.decode(), value.decode()) for name, value in answer.headers if name != b"Content-Length"]
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def _secure(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        if name not in _OWN or name not in response.headers:
            response.headers[name] = value
