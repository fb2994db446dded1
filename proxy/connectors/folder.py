"""The data folder and its files: who may read them, and on what kind of disk they lie (R142, R146)."""

import os
import stat
from pathlib import Path

from proxy.errors import StateError

NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "glusterfs", "coda"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.davfs2"}
)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ESCAPES = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}  # proc_mounts(5), as in getmntent(3)


def filesystem_of(path: Path, mounts: str) -> str | None:
    """The file system type that holds ``path`` (absolute, resolved), by the text of ``/proc/self/mounts``."""
    best, found = -1, None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004  # device, mount point, type
            continue
        point = fields[1]
        for escape, char in _ESCAPES.items():
            point = point.replace(escape, char)
        if path.is_relative_to(point) and len(Path(point).parts) >= best:
            best, found = len(Path(point).parts), fields[2]
    return found


def _refuse_network(path: Path) -> None:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return  # not Linux: nothing to look it up in
    kind = filesystem_of(path, mounts)
    if kind in NETWORK_FILESYSTEMS:
        raise StateError(
            f"the data folder {path} lies on a network file system ({kind}), where SQLite's locks and log "
            "do not hold; choose a local folder with --data-dir, or PostgreSQL with storage.database_url"
        )


def prepare_folder(path: Path) -> tuple[str, ...]:
    """Create the data folder (0700) if need be.

    Returns:
        what is not as it should be but does not stop us, one sentence each.

    Raises:
        StateError: it cannot be made or used, or lies on a network file system.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise StateError(f"the data folder {path} cannot be used: {error.strerror}") from error
    _refuse_network(path.resolve())
    if mode & _OTHERS:
        return (
            f"the data folder {path} is open to other users ({stat.S_IMODE(mode):04o}): chmod 700 {path}",
        )
    return ()


def prepare_file(path: Path) -> tuple[str, ...]:
    """Create an empty file readable by us alone, or take others' rights away from the one that is there.

    SQLite gives its log and shared-memory files the mode of the database file.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        mode = path.stat().st_mode
        if not mode & _OTHERS:
            return ()
        path.chmod(0o600)
    except OSError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}") from error
    return (f"{path} was open to other users (mode {stat.S_IMODE(mode):04o}); it is 0600 now",)


def sync_file(path: Path) -> None:
    """Make what stands in a file last."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Make a new name in the folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
