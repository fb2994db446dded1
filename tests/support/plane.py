"""The data plane in this process, on a loopback socket, with the test's own keys, clock and credentials."""

import asyncio
import contextlib
import io
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from proxy import accesslog, log
from proxy.catalog.model import Auth, Catalog, Host, KeyPlace, Service
from proxy.catalog.origin import OriginTemplate
from proxy.connectors.model import Credential
from proxy.errors import NotConnected
from proxy.forwarding.egress import Dialer, EgressPolicy
from proxy.forwarding.front import Front
from proxy.forwarding.handler import DataPlane, Terms
from proxy.forwarding.limits import DataPlaneOptions, ServerLimits
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.pool import Pool, UpstreamTimeouts
from proxy.forwarding.record import Tracing
from proxy.forwarding.server import DataServer
from proxy.keys import KeyRecord
from proxy.metrics import Metrics, UpstreamCounters
from proxy.problems import CODES
from proxy.secret import Secret
from support import raw, steps, strict
from support.upstream import Script, Upstream

KEY = steps.KEY.decode()
OTHER_KEY = steps.OTHER_KEY.decode()


def credential(token: str = "token-one", connection: str = "main", service: str = "svc") -> Credential:
    return Credential(service, f"id-{connection}", connection, Secret(token))


class Source:
    """Credentials by connection name; ``None`` is the default one. Tells what it was asked."""

    def __init__(self) -> None:
        self.at_hand: dict[str | None, Credential] = {None: credential()}
        self.later: dict[str | None, Credential] = {}
        self.newer: Credential | None = None
        self.refusals: list[Credential] = []
        self.failure: BaseException | None = None
        self.removed: set[str] = set()

    def ready(self, service: str, connection: str | None) -> Credential | None:
        found = self.at_hand.get(connection)
        return found if found is not None and found.service == service else None

    async def obtain(self, service: str, connection: str | None) -> Credential:
        if self.failure is not None:
            raise self.failure
        if connection not in self.later:
            raise NotConnected("no account is connected", service=service)
        await asyncio.sleep(0)
        return self.later[connection]

    def named_by(self, service: str, header: object) -> None:  # noqa: ARG002  # no headers name anything here
        return None

    def stands(self, credential: Credential) -> bool:
        return credential.connection_id not in self.removed

    async def refused(self, credential: Credential) -> Credential | None:
        self.refusals.append(credential)
        if self.failure is not None:
            raise self.failure
        if self.newer is not None:
            self.at_hand[None] = self.newer
        return self.newer


class Scene:
    """Everything a test may turn: ``plane``, ``source``, ``upstream``, ``wall`` (seconds since the epoch)."""

    def __init__(
        self,
        upstream: Upstream,
        options: DataPlaneOptions,
        limits: ServerLimits,
        tracing: Tracing | None = None,
        front: Front | None = None,
    ) -> None:
        self.upstream = upstream
        self.wall = 1_000_000.0
        self.text = io.StringIO()
        self.events = accesslog.EventWriter(log.configure("json", "info", self.text), interval=0)
        self.source = Source()
        self.metrics = Metrics(("svc", "other"), CODES, ())
        self.counters = UpstreamCounters()
        dialer = Dialer(EgressPolicy(allow_addresses=(ipaddress.ip_network("127.0.0.1/32"),)), time.monotonic)
        self.pool = Pool(dialer, UpstreamTimeouts(), time.monotonic, self.counters)
        self.catalog = Catalog({name: self.service(name) for name in ("svc", "other")})
        self.plane = DataPlane(
            Terms(self.catalog, self.source, steps.ring(steps.record("*"))),
            pool=self.pool,
            metrics=self.metrics,
            events=self.events,
            options=options,
            capabilities=Capabilities(b""),
            wall=lambda: self.wall,
            tracing=tracing,
        )
        self.server = DataServer(
            self.plane.answer, self.plane.refuse, limits, begin=self.plane.begin, front=front
        )
        self.address: raw.Address = ("127.0.0.1", 0)

    def service(self, name: str, **more: Any) -> Service:
        origin = OriginTemplate(f"http://127.0.0.1:{self.upstream.port}")
        options: dict[str, Any] = {
            "key_places": (KeyPlace("query", "key"),),
            "auth": Auth(),
            "credential_paths": steps.SpellingSet(("/oauth/**",)),
            **more,
        }
        return steps.service(name, Host("api", origin), **options)

    def keys(self, *records: KeyRecord) -> None:
        """These keys are valid from now on, and no other."""
        self.put(keyring=steps.ring(*records))

    def put(self, **terms: Any) -> None:
        """Put other terms in force: ``catalog``, ``connectors``, ``keyring``."""
        self.plane.terms = replace(self.plane.terms, **terms)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self.server, "127.0.0.1", 0)
        self.address = self._listener.sockets[0].getsockname()[:2]

    async def stop(self) -> None:
        self._listener.close()
        await self.server.drain(0)
        await self.pool.close()
        self.events.close()

    async def call(self, method: str = "GET", target: str = "/svc/x", **options: Any) -> strict.Message:
        options.setdefault("key", KEY)
        return await raw.call(self.address, method, target, **options)

    def calling(self) -> Any:
        return raw.calling(self.address)

    async def ask(self, caller: raw.Caller, target: str = "/svc/x", **options: Any) -> strict.Message:
        """A GET on an open connection."""
        options.setdefault("key", KEY)
        await caller.send(raw.request("GET", target, **options))
        return await caller.answer()

    async def logged(self, number: int = 1) -> list[Mapping[str, Any]]:
        """The access events, once there are that many."""
        while True:
            lines = [json.loads(line) for line in self.text.getvalue().splitlines() if line.endswith("}")]
            found = [line for line in lines if "status" in line]
            if len(found) >= number:
                return found
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def scene(
    script: Script | None = None,
    *,
    options: DataPlaneOptions | None = None,
    limits: ServerLimits | None = None,
    tracing: Tracing | None = None,
    front: Front | None = None,
) -> AsyncIterator[Scene]:
    """A running plane before a scripted upstream (default: echo)."""
    upstream = Upstream()
    if script is not None:
        upstream.script = script
    await upstream.start()
    made = Scene(upstream, options or DataPlaneOptions(), limits or ServerLimits(), tracing, front)
    await made.start()
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        await made.stop()
        await upstream.stop()


def tokens(upstream: Upstream) -> list[bytes | None]:
    """The Authorization of every request that arrived."""
    return [message.value("authorization") for message in upstream.seen()]


def code(message: strict.Message) -> str:
    """The code of an answer that the proxy made."""
    return str(json.loads(message.body)["code"])
