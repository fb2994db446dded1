"""Where the master key comes from: handed in, a file, or a command (R136, R138, R159).

A key is only ever created for a vault that holds nothing yet, and only in the data folder's file.
"""

import asyncio
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from proxy.connectors.folder import sync_folder
from proxy.connectors.process import CommandFailedError, run_command
from proxy.connectors.seal import new_master_key
from proxy.errors import StateError
from proxy.secret import Secret

FILE_NAME = "master.key"
_MAX_BYTES = 4096


class MasterKeySource(Protocol):
    """Gives the master key in its written form."""

    async def load(self, *, may_create: bool) -> Secret:
        """The key; a new one only if ``may_create`` (the vault is empty) and the source allows it.

        Raises:
            StateError: there is no usable key.
        """
        ...


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A key that settings read from the environment or a file."""

    key: Secret

    async def load(self, *, may_create: bool) -> Secret:  # noqa: ARG002  # a given key is never made
        """The key as it was given."""
        return self.key


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file with the key in it; ``create`` allows a new one for an empty vault."""

    path: Path
    create: bool = True

    async def load(self, *, may_create: bool) -> Secret:
        """Read the file, or create it.

        Raises:
            StateError: missing and not to be created, readable by others, or not readable by us.
        """
        return await asyncio.to_thread(self._load, may_create)

    def _load(self, may_create: bool) -> Secret:  # noqa: FBT001  # to_thread passes it by position
        found = self._read()
        if found is not None:
            return found
        if not may_create:
            raise StateError(
                f"the master key file {self.path} is missing, and the vault beside it is sealed with that "
                "key; put the file back from your backup, or give the key as CONNECTOR_PROXY_MASTER_KEY"
            )
        if not self.create:
            raise StateError(
                f"there is no master key in {self.path} and none may be created here; give one as "
                "CONNECTOR_PROXY_MASTER_KEY or storage.master_key (32 random bytes in base64url)"
            )
        self._write(new_master_key())
        created = self._read()
        if created is None:
            raise StateError(f"the master key file {self.path} vanished while it was made")
        return created

    def _read(self) -> Secret | None:
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"the master key file {self.path} cannot be read: {error.strerror}") from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StateError(
                f"the master key file {self.path} is open to other users ({stat.S_IMODE(mode):04o}): "
                f"chmod 600 {self.path}, and think about who may have read it"
            )
        return Secret(content.decode("ascii", "replace").strip())

    def _write(self, key: Secret) -> None:
        """Whole or not at all, and never over another: written aside, synced, then linked to its name."""
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}")
        try:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(key.reveal().encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    os.link(aside, self.path)
                except FileExistsError:
                    return  # another process was first: its key counts
            finally:
                aside.unlink()
            sync_folder(self.path.parent)
        except OSError as error:
            raise StateError(f"the master key file {self.path} cannot be made: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class KeyCommand:
    """A command that prints the key (a KMS client, a password manager); run without a shell."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    timeout: float = 30.0

    async def load(self, *, may_create: bool) -> Secret:  # noqa: ARG002  # a command's key is never made here
        """Run the command once.

        Raises:
            StateError: it failed, took too long or printed too much.
        """
        try:
            printed = await run_command(
                self.argv, environment=self.environment, timeout=self.timeout, max_bytes=_MAX_BYTES
            )
        except CommandFailedError as error:
            raise StateError(f"the master key command {error}") from error
        return Secret(printed.decode("ascii", "replace").strip())
