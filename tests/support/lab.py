"""One proxy between a caller and two scripted upstreams: ``test`` over TLS, ``plain`` without."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from support import raw, strict
from support.certificates import Authority
from support.proxy import ProxyProcess, service_file
from support.raw import Caller
from support.upstream import Upstream

HOST = "up.example"

SHORT = {"head": 1.0, "body_idle": 1.0, "keep_alive": 2.0, "connect": 1.0, "first_byte": 2.0, "idle": 2.0}


class Lab:
    """Both upstreams and a proxy made for them.

    Args:
        authority: signs the upstream.
        folder: an empty folder.
        settings: tables of ``proxy.toml``.
        upstream: take this one for ``test`` in place of a fresh one (bad certificates).
        services: further user services, type id -> text.
        connect_to: further dialling entries.
        options: further arguments of :class:`ProxyProcess`.
    """

    def __init__(
        self,
        authority: Authority,
        folder: Path,
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        upstream: Upstream | None = None,
        services: Mapping[str, str] | None = None,
        connect_to: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.authority = authority
        self.upstream = upstream or Upstream(authority.server(HOST, "other.example"))
        self.plain = Upstream()
        self._folder = folder
        self._settings = settings
        self._services = services or {}
        self._connect_to = connect_to or {}
        self._options = options
        self._proxy: ProxyProcess | None = None

    @property
    def proxy(self) -> ProxyProcess:
        assert self._proxy is not None
        return self._proxy

    async def start(self) -> None:
        """Starts the upstreams and writes the proxy's configuration (the proxy starts by ``with lab.proxy``)."""
        await self.upstream.start()
        await self.plain.start()
        self._proxy = ProxyProcess(
            self._folder / "proxy",
            ca_file=self.authority.ca_file,
            connect_to={f"{HOST}:443": self.upstream.address, **self._connect_to},
            services={
                "test": service_file(f"https://{HOST}"),
                "plain": service_file(f"http://127.0.0.1:{self.plain.port}"),
                **self._services,
            },
            settings={"egress": {"allow_addresses": ["127.0.0.1/32"]}, **(self._settings or {})},
            **self._options,
        )

    async def stop(self) -> None:
        await self.upstream.stop()
        await self.plain.stop()

    async def fresh(self) -> None:
        """Upstreams that echo and remember nothing."""
        await self.upstream.fresh()
        await self.plain.fresh()

    async def __aenter__(self) -> Self:
        await self.start()
        try:
            self.proxy.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            self.proxy.stop()
        finally:
            await self.stop()

    async def call(self, method: str, target: str | bytes, **options: Any) -> strict.Message:
        """One request with the good key on a connection of its own, and its answer."""
        options.setdefault("key", self.proxy.key)
        return await raw.call(self.proxy.address, method, target, **options)

    def calling(self) -> Any:
        """A connection to the proxy: ``async with lab.calling() as caller``."""
        return raw.calling(self.proxy.address)

    async def ask(self, caller: Caller, method: str, target: str | bytes, **options: Any) -> strict.Message:
        """One more request on an open connection, and its answer."""
        options.setdefault("key", self.proxy.key)
        await caller.send(raw.request(method, target, **options))
        return await caller.answer(method.encode())
