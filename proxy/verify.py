"""One harmless call with a connection's token, by the way that all calls take: does it live, and whose?"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp.http import HttpVersion11
from multidict import MultiMapping

from proxy.assembly.credentials import vault_source
from proxy.catalog.grants import Dialect, Verify
from proxy.catalog.jsonpath import first_at
from proxy.catalog.model import Catalog, Service
from proxy.connectors.model import Connection, Credential
from proxy.connectors.sources import Source
from proxy.connectors.vault import Vault
from proxy.errors import RequestError, UpstreamProtocol
from proxy.forwarding.egress import Dialer
from proxy.forwarding.gate import Limits, gate
from proxy.forwarding.headers import Field
from proxy.forwarding.injection import prepare
from proxy.forwarding.pool import Pool, UpstreamTimeouts
from proxy.forwarding.ratelimit import wait_seconds
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import Route
from proxy.metrics import UpstreamCounters
from proxy.settings import Settings

MAX_BODY = 1_048_576
_PATIENCE_S = 30.0
_HOST = (b"Host", b"localhost")  # replaced by the service's
_COMMON = ((b"User-Agent", b"connector-proxy"), (b"Accept", b"*/*"))
_OK = range(200, 300)
_ACCOUNT_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a service said about a connection. ``account``: its name there; ``reason``: why not ok.

    ``account_id``: what stays the same when the account's name changes.
    """

    service: str
    connection: str
    ok: bool
    status: int | None = None
    account: str | None = None
    reason: str | None = None
    account_id: str | None = None


async def verify_all(
    settings: Settings, vault: Vault, catalog: Catalog, chosen: Iterable[Connection]
) -> tuple[Verdict, ...]:
    """One verdict for each connection, one after another."""
    dialer = Dialer(settings.egress.policy(()), time.monotonic)
    source = vault_source(vault, catalog)
    try:
        async with _pool(settings, dialer) as pool:
            return tuple([await _verdict(catalog, source, one, pool) for one in chosen])
    finally:
        await dialer.aclose()


async def verify_new(settings: Settings, dialer: Dialer, service: Service, credential: Credential) -> Verdict:
    """The verdict on a credential that is not stored yet."""
    async with _pool(settings, dialer) as pool:
        return await verify(service, credential, pool)


@asynccontextmanager
async def _pool(settings: Settings, dialer: Dialer) -> AsyncIterator[Pool]:
    times = UpstreamTimeouts(settings.timeouts.connect, _PATIENCE_S, _PATIENCE_S, _PATIENCE_S)
    pool = Pool(dialer, times, time.monotonic, UpstreamCounters())
    pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def _verdict(catalog: Catalog, source: Source, one: Connection, pool: Pool) -> Verdict:
    service = catalog.get(one.service)
    if service is None:
        return Verdict(one.service, one.name, ok=False, reason="the service is not in force")
    try:
        credential = await source.obtain(one.service, one.name)
    except RequestError as error:
        return Verdict(one.service, one.name, ok=False, reason=error.detail)
    return await verify(service, credential, pool)


async def verify(service: Service, credential: Credential, pool: Pool) -> Verdict:
    """Call the service's verify call once; whatever happens becomes a verdict."""
    name = credential.connection
    if service.verify is None:
        return Verdict(service.type_id, name, ok=False, reason="its file has no [verify] call")
    try:
        answer = await _call(service, service.verify, credential, pool)
    except RequestError as error:
        return Verdict(service.type_id, name, ok=False, reason=error.detail)
    wait = wait_seconds(service.rate_limit, answer.status, answer.headers, time.time())
    if wait is not None:
        return Verdict(service.type_id, name, ok=False, status=answer.status, reason=_too_fast(wait))
    return judge(service, service.verify, name, answer.status, answer.body)


def _too_fast(wait: float) -> str:
    return f"the service limits calls for now: try again in {math.ceil(wait)} s"


@dataclass(frozen=True, slots=True)
class _Answered:
    """A whole answer to a verify call."""

    status: int
    headers: MultiMapping[str]
    body: bytes


def judge(service: Service, call: Verify, name: str, status: int, body: bytes) -> Verdict:
    """What an answer to the verify call means."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    ok = status in _OK and (not call.ok_path or first_at(answer, call.ok_path) is True)
    if not ok:
        return Verdict(
            service.type_id, name, ok=False, status=status, reason=_reason(service, status, answer)
        )
    return Verdict(
        service.type_id,
        name,
        ok=True,
        status=status,
        account=_shown(answer, call.name_path),
        account_id=_shown(answer, call.id_path),
    )


def _shown(answer: object, path: str) -> str | None:
    """A text or number of the answer, as far as it can be shown on one line."""
    found = first_at(answer, path) if path else None
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    text = str(found)[:_ACCOUNT_LENGTH]
    return text if text.isprintable() else None


def _reason(service: Service, status: int, answer: object) -> str:
    failure = service.failure
    for dialects, meaning in (
        (failure.dead, "the service no longer takes this grant: connect the account again"),
        (failure.expired, "the service says that the token has expired or is not valid"),
        (failure.never, "the token lives, but may not make this call"),
    ):
        if any(_says(dialect, status, answer) for dialect in dialects):
            return meaning
    return f"the service answered {status}"


def _says(dialect: Dialect, status: int, answer: object) -> bool:
    if dialect.on != "api" or dialect.status != status:
        return False
    return not dialect.codes or first_at(answer, dialect.path) in dialect.codes


async def _call(service: Service, call: Verify, credential: Credential, pool: Pool) -> _Answered:
    path, mark, query = call.path.partition("?")
    host = service.host(call.host) if call.host else None
    host = host or service.default_host(credential.config or {})
    fields = [_HOST, *_COMMON]
    if call.body:
        fields += [
            (b"Content-Type", (call.content_type or "application/json").encode()),
            (b"Content-Length", str(len(call.body.encode())).encode()),
        ]
    elif call.method == "POST":
        fields.append((b"Content-Length", b"0"))
    head = gate(call.method, "/", HttpVersion11, tuple(fields), Limits())
    route = Route(service, host, path.encode(), query.encode() if mark else None, credential.connection)
    injection = prepare(
        service,
        host,
        token=credential.access_token,
        scheme=credential.scheme,
        config=credential.config,
    )
    connection = await pool.connect(injection.origin)
    try:
        connection.send(head.method, request_head(head, route, injection, None) + call.body.encode())
        answer = await connection.wait_head()
        whole = _Whole()
        connection.attach(whole)
        return _Answered(answer.status, connection.headers, await whole.body)
    finally:
        connection.abort()


class _Whole:
    """A body gathered in memory, bounded (``upstream.Sink``)."""

    def __init__(self) -> None:
        self.body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._parts = bytearray()

    def data(self, chunk: bytes) -> None:
        """Keep some bytes."""
        self._parts += chunk
        if len(self._parts) > MAX_BODY:
            self.broken(UpstreamProtocol("the service's answer is too large for a verify call"))

    def end(self, trailers: list[Field]) -> None:  # noqa: ARG002  # of no interest here
        """All of it is there."""
        if not self.body.done():
            self.body.set_result(bytes(self._parts))

    def broken(self, error: RequestError) -> None:
        """It will not come."""
        if not self.body.done():
            self.body.set_exception(error)
