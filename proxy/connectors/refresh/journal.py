"""Answers of providers that the vault could not take: sealed files in the data folder (R118).

One file an answer, named ``{connection}.{generation}.{attempt}``; its bytes are one blob sealed with the
vault's data keys for the place that its name says (``seal.key_id_of`` tells with which).
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.connectors.datakeys import DataKeys
from proxy.connectors.folder import sync_folder
from proxy.connectors.model import Tokens
from proxy.connectors.oauth.answers import Grant
from proxy.connectors.rows import to_json
from proxy.connectors.seal import Place, SealBrokenError
from proxy.errors import StateError
from proxy.secret import Secret

FOLDER = "refresh-journal"
_NAME = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,18})\.([A-Za-z0-9_-]{1,64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer to the refresh of one generation of a connection, made under the lease of ``fence``."""

    connection_id: str
    generation: int
    attempt_id: str
    fence: int
    grant: Grant = field(repr=False)

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.connection_id}.{self.generation}.{self.attempt_id}"


class Journal:
    """The folder ``refresh-journal`` in the data folder; made when it is first needed."""

    def __init__(self, data_dir: Path, data_keys: DataKeys) -> None:
        self._folder = data_dir / FOLDER
        self._data_keys = data_keys

    async def write(self, entry: Entry) -> bool:
        """Keep an answer; False when the folder does not take it either."""
        return await asyncio.to_thread(self.write_now, entry)

    def write_now(self, entry: Entry) -> bool:
        """The same, without a thread: for a process that is about to end."""
        blob = self._data_keys.ring.seal(to_json(_document(entry)).encode(), _place(entry.name))
        try:
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            _put(self._folder / entry.name, blob)
            sync_folder(self._folder)
        except OSError:
            return False
        return True

    async def drop(self, entry: Entry) -> None:
        """Forget an answer that is stored, or has become void."""
        await asyncio.to_thread(self._drop, self._folder / entry.name)

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            with path.open("r+b") as file:  # not left to whoever reads free blocks
                file.write(bytes(size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()

    async def entries(self, connection_id: str | None = None) -> tuple[Entry, ...]:
        """What was kept and can be read, oldest generation first; what cannot be read stays where it is.

        Args:
            connection_id: only the answers for this one; None: all.

        Raises:
            StoreError: whether they can be read is not known, as the data keys may be others by now.
        """
        found = await asyncio.to_thread(self._read, connection_id)
        if not found:
            return ()
        with contextlib.suppress(StateError):
            await self._data_keys.reload()
        entries = []
        for name, blob in found.items():
            with contextlib.suppress(SealBrokenError):
                text = self._data_keys.ring.open(blob, _place(name))
                entries.append(_entry(name, json.loads(text)))
        return tuple(sorted(entries, key=lambda entry: (entry.connection_id, entry.generation)))

    def _read(self, connection_id: str | None) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.iterdir()):
                name = _NAME.fullmatch(path.name)
                if name is not None and connection_id in {None, name[1]}:
                    with contextlib.suppress(OSError):  # another process has saved and dropped it
                        found[path.name] = path.read_bytes()
        return found


def _place(name: str) -> Place:
    return Place("journal", name, "grant")


def _put(path: Path, blob: bytes) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # a thread may be at the same one
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _document(entry: Entry) -> Mapping[str, Any]:
    grant, tokens = entry.grant, entry.grant.tokens
    refresh_token = tokens.refresh_token
    return {
        "fence": entry.fence,
        "access_token": tokens.access_token.reveal(),
        "refresh_token": None if refresh_token is None else refresh_token.reveal(),
        "expires_at": tokens.expires_at,
        "issued_at": tokens.issued_at,
        "refresh_expires_at": tokens.refresh_expires_at,
        "scopes": None if grant.scopes is None else list(grant.scopes),
        "config": dict(grant.config),
        "metadata": dict(grant.metadata),
        "account": grant.account,
        "account_id": grant.account_id,
    }


def _entry(name: str, told: Mapping[str, Any]) -> Entry:
    connection_id, generation, attempt_id = name.split(".")
    refresh_token, scopes = told["refresh_token"], told["scopes"]
    tokens = Tokens(
        Secret(told["access_token"]),
        None if refresh_token is None else Secret(refresh_token),
        expires_at=told["expires_at"],
        issued_at=told["issued_at"],
        refresh_expires_at=told["refresh_expires_at"],
    )
    grant = Grant(
        tokens=tokens,
        scopes=None if scopes is None else tuple(scopes),
        config=told["config"],
        metadata=told["metadata"],
        account=told["account"],
        account_id=told["account_id"],
    )
    return Entry(connection_id, int(generation), attempt_id, int(told["fence"]), grant)
