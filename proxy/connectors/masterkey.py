"""Where the master key comes from: handed in, a file, or a command (R136, R138, R159).

A key is only ever created for a vault that holds nothing yet, and only in the data folder's file.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from proxy.connectors.folder import sync_folder
from proxy.connectors.process import CommandFailedError, run_command
from proxy.connectors.seal import master_key, new_master_key
from proxy.errors import StateError
from proxy.secret import Secret

FILE_NAME = "master.key"
_MAX_BYTES = 4096


def _id_of(key: Secret) -> str | None:
    """The key's id; None for text that is no key."""
    try:
        return master_key(key).key_id
    except StateError:
        return None


class MasterKeySource(Protocol):
    """Gives the master key in its written form."""

    async def load(self, *, may_create: bool, needed: Collection[str] = ()) -> Secret:
        """The key; a new one only if ``may_create`` (the vault is empty) and the source allows it.

        ``needed``: ids of the master keys that the vault is sealed with; a source that has several gives one
        of those.

        Raises:
            StateError: there is no usable key.
        """
        ...


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A key that settings read from the environment or a file."""

    key: Secret

    async def load(self, *, may_create: bool, needed: Collection[str] = ()) -> Secret:  # noqa: ARG002  # there is one
        """The key as it was given."""
        return self.key


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file with the key in it; ``create`` allows a new one for an empty vault."""

    path: Path
    create: bool = True

    async def load(self, *, may_create: bool, needed: Collection[str] = ()) -> Secret:
        """Read the file, or create it; or end a change of the key that was cut off after it counted.

        Raises:
            StateError: missing and not to be created, readable by others, or not readable by us.
        """
        return await asyncio.to_thread(self._load, may_create, frozenset(needed))

    @property
    def next_path(self) -> Path:
        """Where a new key lies while the vault is changed over to it."""
        return self.path.with_name(f"{self.path.name}.next")

    @contextmanager
    def changing_to(self, key: Secret) -> Iterator[None]:
        """Put another key in the file's place around the change of the vault.

        The new key is beside the old one, durably, before the vault may need it, and takes its place
        afterwards; a process cut off in between leaves both, and the next start takes the right one.

        Raises:
            StateError: folder or disk do not let us, or another process changes the key now.
        """
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateError(f"another process changes the master key {self.path} now") from None
            with contextlib.suppress(FileNotFoundError):
                self.next_path.unlink()  # of a change that never counted
            self._write(key, self.next_path)
            yield
            self._promote()
        finally:
            os.close(folder)

    def _promote(self) -> None:
        """The new key takes the old one's place; another process may have done so before us."""
        try:
            with contextlib.suppress(FileNotFoundError):
                self.next_path.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise StateError(
                f"the new master key lies in {self.next_path} and could not be put in place "
                f"({error.strerror}): move it to {self.path}"
            ) from error

    def _load(self, may_create: bool, needed: frozenset[str]) -> Secret:  # noqa: FBT001  # to_thread passes it by position
        found = self._read(self.path)
        if needed and (found is None or _id_of(found) not in needed):
            following = self._read(self.next_path)
            if following is not None and _id_of(following) in needed:
                self._promote()
                return following
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
        self._write(new_master_key(), self.path)
        created = self._read(self.path)
        if created is None:
            raise StateError(f"the master key file {self.path} vanished while it was made")
        return created

    @staticmethod
    def _read(path: Path) -> Secret | None:
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"the master key file {path} cannot be read: {error.strerror}") from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StateError(
                f"the master key file {path} is open to other users ({stat.S_IMODE(mode):04o}): "
                f"chmod 600 {path}, and think about who may have read it"
            )
        return Secret(content.decode("ascii", "replace").strip())

    @staticmethod
    def _write(key: Secret, path: Path) -> None:
        """Whole or not at all, and never over another: written aside, synced, then linked to its name."""
        aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(key.reveal().encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    os.link(aside, path)
                except FileExistsError:
                    return  # another process was first: its key counts
            finally:
                aside.unlink()
            sync_folder(path.parent)
        except OSError as error:
            raise StateError(f"the master key file {path} cannot be made: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class KeyCommand:
    """A command that prints the key (a KMS client, a password manager); run without a shell."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    timeout: float = 30.0

    async def load(self, *, may_create: bool, needed: Collection[str] = ()) -> Secret:  # noqa: ARG002  # there is one
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
