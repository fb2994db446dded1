"""TLS handshakes that never end."""

import asyncio
import socket
import ssl

import pytest
from support.certificates import Authority

from proxy import listeners
from proxy.listeners import HANDSHAKE_S


async def test_handshake_has_a_limit(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that says nothing on the TLS listener is cut after the handshake's limit (R57)."""
    monkeypatch.setattr(listeners, "HANDSHAKE_S", 0.3)
    context = authority.server("localhost")
    assert isinstance(context, ssl.SSLContext)
    with socket.create_server(("127.0.0.1", 0)) as one:
        one.setblocking(False)
        served = await listeners.serve(asyncio.Protocol, one, context)
        reader, writer = await asyncio.open_connection(*one.getsockname())
        async with asyncio.timeout(HANDSHAKE_S * 0.9):
            assert await reader.read() == b""
        writer.close()
        served.close()
