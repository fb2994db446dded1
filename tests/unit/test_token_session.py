"""Token endpoints are reached under the same egress rules as services (R81)."""

import itertools
import socket

import aiohttp
import pytest

from proxy.forwarding.addresses import Dial
from proxy.forwarding.egress import Dialer, EgressPolicy
from proxy.token_session import CheckedConnector, CheckedResolver, session_connector


async def _private(host: str, port: int) -> list[str]:
    return (
        ["10.0.0.7"]
        if host == "inside.example"
        else ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
    )


def _dialer(**policy) -> Dialer:
    return Dialer(EgressPolicy(**policy), lambda: 0.0, resolve=_private)


async def test_private_addresses_are_no_addresses() -> None:
    """A name that leads inside cannot be called, and the error does not tell where it leads (R77, R81)."""
    with pytest.raises(OSError, match="no address to connect to"):
        await CheckedResolver(_dialer(), "https").resolve("inside.example", 443)


async def test_allowed_addresses_come_with_port_and_family() -> None:
    """Judged addresses are handed on as they are, filtered by the family asked for."""
    resolver = CheckedResolver(_dialer(), "https")
    everything = await resolver.resolve("api.example", 443)
    assert [(one["host"], one["port"]) for one in everything] == [
        ("93.184.215.14", 443),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", 443),
    ]
    only = await resolver.resolve("api.example", 443, socket.AF_INET6)
    assert [one["family"] for one in only] == [socket.AF_INET6]
    await resolver.close()


async def test_connect_to_counts_for_token_endpoints() -> None:
    """What the operator redirects for services is redirected here too."""
    resolver = CheckedResolver(_dialer(connect_to={"app.example:443": Dial("127.0.0.1", 9443)}), "https")
    assert [(one["host"], one["port"]) for one in await resolver.resolve("APP.example", 443)] == [
        ("127.0.0.1", 9443)
    ]


@pytest.mark.parametrize(
    ("scheme", "host"),
    [
        ("https", "127.0.0.1"),  # plain http to loopback is what services of one's own may use
        ("https", "[::1]"),
        *itertools.product(("http", "https"), ("10.0.0.7", "169.254.169.254", "[::ffff:10.0.0.7]")),
    ],
)
async def test_literal_addresses_are_judged(scheme: str, host: str) -> None:
    """An address that stands in a URL itself is refused like one that a name leads to (R77, R81)."""
    base = f"{scheme}://{host}:1"
    async with aiohttp.ClientSession(connector=session_connector(_dialer(), base)) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await session.get(base)


async def test_connect_to_counts_for_literal_addresses() -> None:
    """What the operator redirects is redirected, be its name an address."""
    dialer = _dialer(connect_to={"93.184.215.14:443": Dial("127.0.0.1", 9443)})
    connector = session_connector(dialer, "https://93.184.215.14")
    assert isinstance(connector, CheckedConnector)
    found = await connector._resolve_host("93.184.215.14", 443)
    assert [(one["host"], one["port"]) for one in found] == [("127.0.0.1", 9443)]
    await connector.close()


async def test_a_connector_is_made_for_https_and_loopback_http() -> None:
    """Both kinds of base that a token endpoint may have get a connector."""
    for base in ("https://app.example", "http://127.0.0.1:8080"):
        connector = session_connector(_dialer(), base)
        await connector.close()
