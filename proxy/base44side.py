"""The connectors calls of Base44 on the control plane, put together from what the server has."""

import time
from collections.abc import Mapping

from proxy import log
from proxy.accesslog import AccessEvent, Row, access_fields
from proxy.assembly.providers import token_endpoint
from proxy.connecting import Connecting
from proxy.connectors.model import Connection
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.vault import Vault
from proxy.control.base44.asking import ServiceKeys
from proxy.control.base44.routes import Base44Calls
from proxy.control.base44.served import Served
from proxy.core import Core
from proxy.disconnecting import Disconnecting
from proxy.forwarding.gate import Limits as HeadLimits
from proxy.forwarding.handler import Terms
from proxy.forwarding.handler.calls import Call, CallPlane, Reply
from proxy.forwarding.keys import KeyRing
from proxy.forwarding.limits import DataPlaneOptions, ServerLimits
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.pool import Pool, UpstreamTimeouts
from proxy.keys import KeyRecord

_SERVER_ERRORS = 500


def base44_calls(
    core: Core,
    vault: Vault,
    registrations: Registrations,
    connecting: Connecting,
    calls: "DataPath",
    *,
    public_url: str,
) -> Base44Calls:
    """The calls, for the app that the settings name when they are asked.

    Args:
        core: has services, sources and keys as they are in force.
        vault: of ``core``.
        registrations: of ``core``.
        connecting: takes consent to its end.
        calls: makes the requests of ``callApi``.
        public_url: origin of the control plane as browsers reach it.
    """
    endpoint = token_endpoint(core.dialer)

    async def disconnect(connection: Connection, actor: str) -> object:
        ending = Disconnecting(vault, core.catalog, registrations, endpoint)
        return await ending.disconnect(connection, actor=actor)

    def is_elsewhere(type_id: str) -> bool:
        source = core.settings.sources.get(type_id)
        return source is not None and source.kind != "vault"

    def keys() -> Mapping[str, KeyRecord]:
        return {} if core.follower is None else core.follower.keys  # settings declare none of this kind

    served = Served(
        lambda: core.settings.base44.serve_app_id,
        lambda: core.catalog,
        lambda: core.connectors,
        vault,
        connecting,
        disconnect,
        is_elsewhere,
    )
    known = ServiceKeys(keys)

    async def make(call: Call) -> Reply:
        return await calls.make(call, known.on_data_path())

    return Base44Calls(served, known, lambda key_id: core.note_use(key_id, time.time()), public_url, make)


class DataPath:
    """A data path for the calls of service keys, in the process of the control plane.

    Args:
        core: has services and sources as they are in force.
        connect_url: where people connect accounts.
    """

    def __init__(self, core: Core, connect_url: str) -> None:
        limits, times = core.settings.limits, core.settings.timeouts
        self._core = core
        self._terms = Terms(core.catalog, core.connectors, KeyRing({}))
        self._pool = Pool(
            core.dialer,
            UpstreamTimeouts(times.connect, times.first_byte, times.idle, times.total),
            time.monotonic,
            core.metrics.upstream,
        )
        self._plane = CallPlane(
            self._terms,
            pool=self._pool,
            metrics=core.metrics,
            events=_Lines(),
            options=DataPlaneOptions(
                limits=HeadLimits(limits.request_line, limits.header_bytes, limits.headers),
                body_bytes=limits.body_bytes,
                replay_bytes=limits.replay_bytes,
                upstream_per_service=limits.upstream_per_service,
                connect_base_url=connect_url,
                links=False,
            ),
            capabilities=Capabilities(b""),
        )
        self._calls = self._plane.serve(ServerLimits(connections=limits.connections))

    async def make(self, call: Call, keyring: KeyRing) -> Reply:
        """Make a call with the keys, services and sources that are in force now."""
        core, terms = self._core, self._terms
        same = terms.catalog is core.catalog and terms.connectors is core.connectors
        if not same or terms.keyring is not keyring:
            self._terms = self._plane.terms = Terms(core.catalog, core.connectors, keyring)
        return await self._calls.make(call)

    def start(self) -> None:
        """Begin to enforce time limits; needs a running loop."""
        self._pool.start()

    async def close(self) -> None:
        """Cut calls under way, and let go of connections to services."""
        await self._calls.close()
        await self._pool.close()


class _Lines:
    """Access events as lines of the event log: there are few, and this process has no thread for them."""

    def emit(self, event: Row) -> None:
        """Write one."""
        fields = access_fields(AccessEvent(*event))
        for name in ("timestamp", "event", "level"):
            fields.pop(name)
        log.event("request", level="warning" if fields["status"] >= _SERVER_ERRORS else "info", **fields)
