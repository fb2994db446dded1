"""aiohttp connections for token endpoints, under the same egress rules as the data path (R81)."""

import socket
import ssl
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.tracing import Trace
from yarl import URL

from proxy.catalog.origin import Origin, parse_origin
from proxy.errors import AddressRefused, UpstreamUnreachable
from proxy.forwarding.addresses import parse_address
from proxy.forwarding.egress import Dialer
from proxy.forwarding.racing import open_first
from proxy.forwarding.tunnel import open_tunnel

_CONNECTIONS = 20


class CheckedResolver(AbstractResolver):
    """Names become only addresses that the dialer allows; ``connect_to`` counts here too."""

    def __init__(self, dialer: Dialer, scheme: str) -> None:
        self._dialer = dialer
        self._scheme = scheme

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Allowed addresses, best first.

        Raises:
            OSError: there are none; what was refused is not told.
        """
        try:
            dials = await self._dialer.addresses(Origin(self._scheme, host.lower(), port))
        except (AddressRefused, UpstreamUnreachable) as error:
            raise OSError("no address to connect to") from error
        wanted = [
            (dial, socket.AF_INET6 if ":" in dial.ip else socket.AF_INET)
            for dial in dials
            if parse_address(dial.ip) is not None
        ]
        return [
            ResolveResult(
                hostname=host,
                host=dial.ip,
                port=dial.port,
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for dial, kind in wanted
            if family in {socket.AF_UNSPEC, kind}
        ]

    async def close(self) -> None:
        """Nothing is held."""


class CheckedConnector(aiohttp.TCPConnector):
    """Asks the resolver for literal addresses too, which aiohttp would dial as they stand."""

    def __init__(self, dialer: Dialer, origin: Origin, context: ssl.SSLContext | None) -> None:
        super().__init__(
            resolver=CheckedResolver(dialer, origin.scheme),
            ssl=True if context is None else context,
            limit=_CONNECTIONS,
            use_dns_cache=False,
        )

    async def _resolve_host(
        self,
        host: str,
        port: int,
        traces: Sequence[Trace] | None = None,  # noqa: ARG002  # nobody traces look-ups
    ) -> list[ResolveResult]:
        """The addresses that may be dialled.

        Raises:
            OSError: there are none.
        """
        return await self._resolver.resolve(host, port, family=self._family)


class TunnelConnector(aiohttp.BaseConnector):
    """Connections through the egress proxy, by the same code as the data path's."""

    def __init__(self, dialer: Dialer, origin: Origin, context: ssl.SSLContext) -> None:
        super().__init__(limit=_CONNECTIONS)
        self._dialer = dialer
        self._origin = origin
        self._context = context

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],  # noqa: ARG002  # nobody traces these sessions' connections
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109  # ``connect`` obeys it already
    ) -> ResponseHandler:
        """A connection for a request to the connector's origin (aiohttp's place for other ways to connect).

        Raises:
            OSError: no connection came to be; what was refused is not told.
        """
        proxy, url = self._dialer.policy.via(self._origin), req.url
        if proxy is None or (url.scheme, url.raw_host, url.port) != tuple(self._origin):
            raise OSError("this connector is for another origin")
        try:
            dials = await self._dialer.addresses(self._origin)
            return await open_first(
                dials,
                lambda _, sock: open_tunnel(proxy, sock, self._origin, self._context, self._factory),
            )
        except (AddressRefused, UpstreamUnreachable) as error:
            raise OSError(error.detail) from error
        except OSError as error:
            raise OSError("no connection through the egress proxy") from error


def session_connector(dialer: Dialer, base: str) -> aiohttp.BaseConnector:
    """A connector for one endpoint's origin: addresses and roots as the dialer decides."""
    origin = parse_origin(str(URL(base).origin()))
    context = dialer.ssl_context(origin)
    if context is not None and dialer.policy.via(origin) is not None:
        return TunnelConnector(dialer, origin, context)
    return CheckedConnector(dialer, origin, context)
