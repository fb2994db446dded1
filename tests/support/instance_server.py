"""Processes that use one vault, forked from a program that has imported everything: a new one in milliseconds.

``python -m support.instance_server SOCKET`` forks one for each line of its standard input (a JSON object: ``config``
the settings file, ``data_dir``) and ends with it. Each connects to SOCKET, opens the vault as a server's process
does (``proxy.core.Core``), says ``{"pid": ...}`` and carries out one JSON line after another, all at once; the
answer has the same ``id``.
"""

import asyncio
import collections
import functools
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from proxy.assembly.inforce import catalog_of
from proxy.assembly.vaults import open_vault
from proxy.catalog.model import Catalog
from proxy.connectors.model import Tokens
from proxy.connectors.vault import Vault
from proxy.core import Core
from proxy.errors import ConnectorProxyError
from proxy.keys import KeyRecord, digest, generate
from proxy.secret import Secret
from proxy.settings import load_settings

SERVICE = "real"


class Instance:
    """What one process can be asked to do."""

    def __init__(self, core: Core, vault: Vault) -> None:
        self._core = core
        self._vault = vault

    async def do(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One order; a refusal is an answer too."""
        order = getattr(self, "on_" + asked.pop("op"))
        try:
            answer: dict[str, Any] = await order(**asked)
        except ConnectorProxyError as error:
            return {"error": type(error).__name__, "detail": str(error)}
        return answer

    async def on_look(self) -> dict[str, Any]:
        """Take in now what others have changed, instead of within a quarter of a second."""
        await self._vault.catch_up()
        return {"sequence": self._vault.snapshot.sequence}

    async def on_get(
        self, callers: int = 1, connection: str | None = None, *, look: bool = False
    ) -> dict[str, Any]:
        """``get_connection`` by so many callers at once: tokens and errors with their numbers."""
        if look:
            await self._vault.catch_up()
        begun = time.perf_counter()
        results = await asyncio.gather(
            *(self._core.connectors.get_connection(SERVICE, connection=connection) for _ in range(callers)),
            return_exceptions=True,
        )
        tokens = collections.Counter(
            one.access_token for one in results if not isinstance(one, BaseException)
        )
        errors = collections.Counter(
            f"{type(one).__name__}: {one}" for one in results if isinstance(one, BaseException)
        )
        held = [one for one in self._vault.snapshot.held.values() if one.credential is not None]
        known = {
            one.credential.access_token.reveal(): one.credential.generation for one in held if one.credential
        }
        return {
            "tokens": tokens,
            "errors": errors,
            "generation": max((known[token] for token in tokens if token in known), default=None),
            "took": time.perf_counter() - begun,
        }

    async def on_save(self, name: str, access: str, refresh: str | None, expires_in: float) -> dict[str, Any]:
        """Connect an account, or connect it anew."""
        now = time.time()
        tokens = Tokens(
            Secret(access), Secret(refresh) if refresh else None, expires_at=now + expires_in, issued_at=now
        )
        saved = await self._vault.save_connection(
            SERVICE,
            name,
            tokens,
            registration="real",
            asked_scopes=("read", "write"),
            scopes=("read", "write"),
        )
        return {"connection_id": saved.connection_id, "generation": saved.generation}

    async def on_remove(self, name: str) -> dict[str, Any]:
        """Forget a connection."""
        await self._vault.remove(SERVICE, name)
        return {}

    async def on_rotate(self) -> dict[str, Any]:
        """Seal everything anew."""
        return {"resealed": (await self._vault.rotate(batch=20)).resealed}

    async def on_adopt(self) -> dict[str, Any]:
        """Make this vault the original."""
        return {"adopted": await self._vault.adopt()}

    async def on_key(self, name: str) -> dict[str, Any]:
        """Make a proxy key."""
        key_id, key = generate()
        await self._vault.add_key(KeyRecord(key_id, name, digest(key.reveal().encode()), ("*",)))
        return {"key_id": key_id}

    async def on_revoke_key(self, key_id: str) -> dict[str, Any]:
        """Put a key out of force."""
        await self._vault.revoke_key(key_id)
        return {}

    async def on_keys(self) -> dict[str, Any]:
        """Whether each key is in force, by id."""
        await self._vault.catch_up()
        return {key_id: record.revoked_at is None for key_id, record in self._vault.keys().items()}

    async def on_connections(self) -> dict[str, Any]:
        """State and generation of every connection, by name."""
        await self._vault.catch_up()
        return {
            one.name: {"state": one.state, "cause": one.cause, "generation": one.generation}
            for one in self._vault.connections()
        }

    async def on_audit(self) -> dict[str, Any]:
        """Actions of the audit, newest first."""
        return {"actions": [one.action for one in await self._vault.audit()]}


@functools.cache
def _catalog(config: Path) -> Catalog:
    """Read before the first fork, as services do not change under a test: a third of a start."""
    return catalog_of(load_settings(config, os.environ))


async def _live(config: Path, data_dir: Path, socket: str) -> None:
    settings = load_settings(config, os.environ, {"storage.data_dir": str(data_dir)})
    catalog = _catalog(config)
    vault = await open_vault(settings, catalog)
    core = Core(settings, catalog, (), vault)
    core.start()
    if core.refresher is not None:  # what a host needs once; as any number may do it, each one does
        core.go(core.refresher.run(), "refreshes")
    reader, writer = await asyncio.open_unix_connection(socket, limit=2**24)
    instance = Instance(core, vault)
    orders: set[asyncio.Task[None]] = set()

    async def carry_out(asked: dict[str, Any]) -> None:
        number = asked.pop("id")
        answer = await instance.do(asked)
        writer.write(json.dumps({**answer, "id": number}).encode() + b"\n")

    writer.write(json.dumps({"pid": os.getpid()}).encode() + b"\n")
    while line := await reader.readline():
        orders.add(asyncio.create_task(carry_out(json.loads(line))))
    for order in orders:
        order.cancel()
    await asyncio.gather(*orders, return_exceptions=True)
    await core.close()
    await vault.close()


def _child(spec: dict[str, str], socket: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(0o077)
    asyncio.run(_live(Path(spec["config"]), Path(spec["data_dir"]), socket))


def main() -> None:
    """Fork for each line; the kernel buries the dead at once."""
    socket = sys.argv[1]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        spec = json.loads(line)
        _catalog(Path(spec["config"]))
        sys.stderr.flush()
        if os.fork():
            continue
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _child(spec, socket)
            status = 0
        except Exception:  # noqa: BLE001  # told where the parent's output goes, as any program would
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    main()
