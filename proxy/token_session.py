"""aiohttp connections for token endpoints, under the same egress rules as the data path (R81)."""

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from proxy.catalog.origin import Origin, parse_origin
from proxy.errors import AddressRefused, UpstreamUnreachable
from proxy.forwarding.addresses import parse_address
from proxy.forwarding.egress import Dialer


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


def session_connector(dialer: Dialer, base: str) -> aiohttp.BaseConnector:
    """A connector for one endpoint's origin: addresses and roots as the dialer decides."""
    url = URL(base)
    context = dialer.ssl_context(parse_origin(str(url.origin())))
    return aiohttp.TCPConnector(
        resolver=CheckedResolver(dialer, url.scheme),
        ssl=True if context is None else context,
        limit=20,
        use_dns_cache=False,
    )
