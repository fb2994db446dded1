"""The side of a process that forwards: data plane, its server and listeners, connections to services."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import ceil

from proxy import accesslog, certificates, listeners, log
from proxy.core import Core
from proxy.feed import Batch, Tap
from proxy.forwarding.gate import Limits as HeadLimits
from proxy.forwarding.handler import DataPlane, Terms
from proxy.forwarding.headers import TRACE_CONTEXT
from proxy.forwarding.headroom import Told
from proxy.forwarding.keys import KeyRing
from proxy.forwarding.limits import DataPlaneOptions, ServerLimits
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.pool import Pool, UpstreamTimeouts
from proxy.forwarding.server import DataServer
from proxy.settings import Settings
from proxy.threads import in_daemon
from proxy.tracing import tracing_of


class DataSide:
    """Answers callers on sockets that others bound.

    Args:
        core: see Core; its ``on_change`` and ``take_uses`` are taken over.
        sockets: of which ``data``, ``tls`` and ``own`` are served here.
        events: where finished requests go.
        connect_url: where people connect accounts; None where there is no vault to keep them in.
        share: how many processes share the limits of the settings.
    """

    def __init__(
        self,
        core: Core,
        sockets: listeners.Sockets,
        events: accesslog.EventWriter,
        *,
        connect_url: str | None,
        share: int = 1,
    ) -> None:
        settings = core.settings
        self._core = core
        self._sockets = sockets
        times = settings.timeouts
        self.pool = Pool(
            core.dialer,
            UpstreamTimeouts(times.connect, times.first_byte, times.idle, times.total),
            time.monotonic,
            core.metrics.upstream,
        )
        self._tracing = tracing_of(settings)
        self.plane = DataPlane(
            self._terms(),
            pool=self.pool,
            metrics=core.metrics,
            events=events,
            options=replace(_options(settings, share), connect_base_url=connect_url),
            capabilities=Capabilities(core.vault.secret_for("capability addresses") if core.vault else b""),
            tracing=self._tracing,
        )
        self.server = DataServer(
            self.plane.answer,
            self.plane.refuse,
            _server_limits(settings, share),
            begin=self.plane.begin,
            front=settings.server.front,
        )
        self._tls = listeners.tls_context(settings)
        self._tap: Tap | None = None
        self._loops: list[asyncio.AbstractServer] = []
        self._renew = asyncio.Event()
        core.on_change = self._changed
        core.on_reload = self._renew.set
        core.take_uses = self._take_uses
        core.take_account_uses = self.plane.take_account_uses
        self._count_things(events)

    def _count_things(self, events: accesslog.EventWriter) -> None:
        metrics = self._core.metrics
        metrics.gauge("caller_connections", "Open connections from callers", lambda: self.server.callers)
        metrics.gauge("websockets", "Open WebSockets", lambda: self.server.websockets)
        metrics.gauge(
            "upstream_open_connections", "Open connections to services", lambda: self.pool.open_connections
        )
        metrics.counter("log_events_dropped", "Request events not written", lambda: events.dropped)

    async def start(self) -> None:
        """Accept connections from now on."""
        self.pool.start()
        self.server.start()
        for one in self._sockets.data:
            self._loops.append(await listeners.serve(self.server, one, None))
        for service, one in self._sockets.own:
            self._loops.append(await listeners.serve(self.server.for_service(service), one, None))
        for one in self._sockets.tls:
            self._loops.append(await listeners.serve(self.server, one, self._tls))
        if self._tls is not None:
            self._core.keep(partial(self._keep_certificate, self._tls), "certificate of the TLS listener")

    async def drain(self, seconds: float) -> bool:
        """Stop accepting and let requests in flight end; True when all did within ``seconds`` (R70)."""
        self.plane.draining = True
        for loop_server in self._loops:
            loop_server.close()
        clean = await self.server.drain(seconds)
        if self._tracing is not None:
            await self._tracing.close()
        return clean

    async def close(self) -> None:
        """Let go of the connections to services."""
        await self.pool.close()

    async def _keep_certificate(self, context: ssl.SSLContext) -> None:
        """Look for a newer certificate after each reload, and as often as a local one may need it."""
        await certificates.keep(
            self._renew,
            certificates.RENEW_EVERY_S,
            prove=lambda: in_daemon(lambda: listeners.tls_context(self._core.settings), name="certificate"),
            show=lambda: listeners.show_certificate(context, self._core.settings),
        )

    def watch(self, tell: Callable[[Batch], None] | None) -> None:
        """Tell of requests that are over, in batches; None: no more."""
        if self._tap is not None:
            self._tap.close()
        self._tap = None if tell is None else Tap(tell)
        self.plane.watch(self._tap)

    def take_budgets(self) -> list[Told]:
        """How many calls services said are left, since this was last called."""
        return self.plane.headroom.take()

    def checks(self) -> Mapping[str, str]:
        """For readiness: not draining."""
        return {"data_plane": "draining" if self.plane.draining else "ok"}

    def _changed(self) -> None:
        """Put the keys, services and sources in force that there are now."""
        self.plane.terms = self._terms()

    def _terms(self) -> Terms:
        keyring = KeyRing(self._core.keys)
        for fault in keyring.faults:
            log.event("permit_ignored", level="warning", place=fault.place, reason=fault.message)
        return Terms(self._core.catalog, self._core.connectors, keyring)

    def _take_uses(self) -> Mapping[str, float]:
        return {key: when for key, when in self.plane.take_uses().items() if key not in self._core.declared}


def _options(settings: Settings, share: int) -> DataPlaneOptions:
    limits = settings.limits
    return DataPlaneOptions(
        limits=HeadLimits(limits.request_line, limits.header_bytes, limits.headers),
        body_bytes=limits.body_bytes,
        body_idle_s=settings.timeouts.body_idle,
        replay_bytes=limits.replay_bytes,
        upstream_per_service=ceil(limits.upstream_per_service / share),
        host_suffixes=tuple(suffix.lower().strip(".") for suffix in settings.data.host_suffixes),
        fallback=settings.data.fallback,
        share=share,
        public_url=(settings.data.public_url or "").encode(),
        withheld=TRACE_CONTEXT if settings.tracing.to_services != "unchanged" else frozenset(),
    )


def _server_limits(settings: Settings, share: int) -> ServerLimits:
    limits, times = settings.limits, settings.timeouts
    return ServerLimits(
        connections=ceil(limits.connections / share),
        request_line=limits.request_line,
        header_bytes=limits.header_bytes,
        headers=limits.headers,
        head_s=times.head,
        body_idle_s=times.body_idle,
        keep_alive_s=times.keep_alive,
    )
