"""``events``: requests as they happen, of the server here or of one elsewhere."""

import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import typer
from yarl import URL

from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.remote import BY_SOCKET, UNIX, Remote, RemoteError, cut, document_of, opened_session, unreached
from proxy.cli.session import ACTOR, FAILED, JsonOption, run_loop, with_vault
from proxy.cli.target import Target, anywhere
from proxy.connectors.vault import Vault
from proxy.errors import StateError
from proxy.log import escape
from proxy.operations import places
from proxy.operations.tokens import create_token
from proxy.secret import Secret
from proxy.settings import Settings

_ADDRESS = "/api/v1/events"
_SILENCE_S = 60.0  # of a server that says every 10 s that nothing happens
_OK = 200
_BY_SIGNAL = 128
_ENDS: Mapping[str, str] = {
    "credential": "the token was revoked, or has ended",
    "closing": "the server ends",
    "vault": "the server cannot read its vault",
}
_Event = tuple[str, Mapping[str, Any]]


@anywhere
def events(
    target: Target,
    *,
    service: Annotated[str | None, typer.Option("--service", metavar="SERVICE", help="Only of that.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="ID", help="Only with that key.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="4|50|404", help="Only statuses that begin so.")
    ] = None,
    origin: Annotated[
        Literal["proxy", "service"] | None, typer.Option("--origin", help="Only errors, made by that side.")
    ] = None,
    seconds: Annotated[
        int | None, typer.Option("--seconds", min=0, max=86_400, help="End after so many; else Ctrl-C.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show requests as they happen, one a line; with --json each as one JSON object."""
    wanted = {"service": service, "key": key, "status": status, "origin": origin, "seconds": seconds}
    query = {name: str(value) for name, value in wanted.items() if value is not None}
    with _reached(target) as remote:
        reason = run_loop(_show(remote, query, as_json=as_json))
    if reason != "time":
        output.note(f"connector-proxy: {_ENDS.get(reason, 'the connection broke')}")
        raise typer.Exit(FAILED)


@contextlib.contextmanager
def _reached(target: Target) -> Any:
    """The server; one here is asked with a token that is made for this, and revoked."""
    if target.remote is not None:
        yield target.remote
        return
    settings = target.settings()
    told = places.running(settings)
    if told is None or not told.get("control"):
        raise StateError(
            f"no server runs on {settings.storage.data_dir}: "
            "start 'connector-proxy serve', or name its folder with --data-dir"
        )
    plain = places.origin_of("http", told["control"]) if settings.control.tls.cert_file is None else None
    sockets = (Path(one.removeprefix(UNIX)) for one in told["control"] if one.startswith(UNIX))
    with _ended_by_signals():
        token_id, token = _made(settings)
        try:
            by_socket = next(sockets, None)  # needs no name and no root
            url = BY_SOCKET if by_socket else URL(plain or str(told["public_url"]))
            yield Remote(url, token, socket=by_socket)
        finally:
            _revoked(settings, token_id)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What ends a program unwinds this one, as Ctrl-C does; a signal that is ignored stays so (nohup)."""

    def end(number: int, _: object) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)  # once is enough: what follows is to be done whole
        raise SystemExit(_BY_SIGNAL + number)

    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    before = {one: handler for one, handler in before.items() if handler is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _made(settings: Settings) -> tuple[str, Secret]:
    name = f"events-{os.getpid()}-{secrets.token_hex(4)}"

    async def work(vault: Vault, _: Catalog) -> tuple[str, Secret]:
        record, token = await create_token(vault, name, ["read"], "1d", now=time.time(), actor=ACTOR)
        return record.token_id, token

    return with_vault(settings, work)


def _revoked(settings: Settings, token_id: str) -> None:
    async def work(vault: Vault, _: Catalog) -> bool:
        return await vault.revoke_admin_token(token_id, actor=ACTOR)

    with_vault(settings, work)


async def _show(remote: Remote, query: Mapping[str, str], *, as_json: bool) -> str:
    """Print what happens; why it ended."""
    async with contextlib.aclosing(_watched(remote, query)) as told:
        async for name, value in told:
            if name == "end":
                return str(value.get("reason"))
            if name == "lost":
                output.note(f"{value.get('count')} more requests than are shown")
            elif name == "request":
                output.line(json.dumps(value, ensure_ascii=False) if as_json else _line(value))
                sys.stdout.flush()
    return "broken"


async def _watched(remote: Remote, query: Mapping[str, str]) -> AsyncGenerator[_Event]:
    times = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=_SILENCE_S)
    headers = {"Authorization": f"Bearer {remote.token.reveal()}", "Accept": "text/event-stream"}
    url = remote.url.join(URL(_ADDRESS)).with_query(query)
    async with opened_session(remote, times) as session:
        try:
            async with session.get(url, headers=headers, allow_redirects=False) as answer:
                if answer.status != _OK:
                    document_of(answer.status, await answer.read())
                    raise RemoteError(f"the server answered {answer.status}")
                try:
                    async for event in _events(answer.content):
                        yield event
                finally:
                    cut(answer)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise RemoteError(unreached(remote.shown, error)) from None


async def _events(lines: aiohttp.StreamReader) -> AsyncGenerator[_Event]:
    """Server-sent events, as this server writes them: one line of data each."""
    name = "message"
    async for raw in lines:
        field, _, value = raw.decode("utf-8", "replace").rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
            name = "message"


def _line(one: Mapping[str, Any]) -> str:
    account = "@".join(str(part) for part in (one.get("service"), one.get("connection")) if part)
    total = one["spent"]["total"]
    words = [one["timestamp"], one["status"], one["method"], one["path"], account, f"{total * 1000:.1f} ms"]
    words += [one.get("key_id"), one.get("error")]
    return " ".join(escape(str(word)) for word in words if word)
