"""Shipped services before a TLS upstream that plays their hosts: what the tests of one module share."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy import keys
from support import raw, strict
from support.certificates import Authority
from support.proxy import ProxyProcess
from support.upstream import Upstream, replying


class World:
    """A proxy before the upstream; ``second``: a further key, if the module's settings have one."""

    def __init__(self, upstream: Upstream, proxy: ProxyProcess, second: str = "") -> None:
        self.upstream = upstream
        self.proxy = proxy
        self.second = second

    async def post(  # a request's parts
        self,
        target: str,
        body: bytes,
        media: str = "application/json",
        *,
        key: str | None = "",
        answering: bytes = b"",
        **fields: str,
    ) -> strict.Message:
        """What is told of a POST; nothing else has arrived upstream before. An empty key is the proxy's first."""
        await self.upstream.fresh(replying(answering) if answering else None)
        given = [("Content-Type", media), *((name.replace("_", "-"), one) for name, one in fields.items())]
        known = self.proxy.key if key == "" else key
        return await raw.call(self.proxy.address, "POST", target, key=known, fields=given, body=body)

    def arrived(self) -> strict.Message:
        """The only request that arrived; the key is nowhere in it."""
        (message,) = self.upstream.seen()
        assert self.proxy.key.encode() not in bytes(self.upstream.peers[0].received)
        return message


@contextlib.contextmanager
def served(  # a world's parts
    runner: Any,
    authority: Authority,
    folder: Path,
    hosts: tuple[str, ...],
    *,
    tokens: Mapping[str, str],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[Upstream, ProxyProcess]]:
    """The upstream and the proxy, until the block ends. ``tokens``: service -> its token."""
    upstream = Upstream(authority.server(*hosts))
    runner.run(upstream.start())
    proxy = ProxyProcess(
        folder / "proxy",
        ca_file=authority.ca_file,
        connect_to={f"{host}:443": upstream.address for host in hosts},
        settings={"egress": {"allow_addresses": ["127.0.0.1/32"]}, **(settings or {})},
        environment={
            **{f"CONNECTOR_PROXY_TOKEN_{name.upper()}": token for name, token in tokens.items()},
            **(environment or {}),
        },
    )
    with proxy:
        yield upstream, proxy
    runner.run(upstream.stop())


def second_key(*allow: str) -> tuple[str, Mapping[str, Any]]:
    """A key, and what the settings say of it."""
    key = keys.generate()[1].reveal()
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, {"hash": f"sha256:{digest}", "allow": list(allow)}
