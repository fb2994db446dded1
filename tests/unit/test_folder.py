"""The data folder: whose it is, and on what disk."""

import stat
from pathlib import Path

import pytest

from proxy.connectors import folder
from proxy.connectors.folder import filesystem_of, prepare_file, prepare_folder
from proxy.errors import StateError

MOUNTS = r"""/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/export /mnt/share nfs4 rw,vers=4.2 0 0
//nas/home /mnt/with\040space cifs rw 0 0
tmpfs /mnt/share/fast tmpfs rw 0 0
overlay /data overlay rw 0 0
/dev/vdb /data ext4 rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/ann/.local/share", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/ann/data", "nfs4"),
        ("/mnt/shared", "ext4"),
        ("/mnt/share/fast/data", "tmpfs"),
        ("/mnt/with space/data", "cifs"),
        ("/data/x", "ext4"),
    ],
)
def test_the_file_system_of_a_path(path: str, expected: str) -> None:
    """The nearest mount point above a path counts, the later of two on one point, spaces unescaped (R146)."""
    assert filesystem_of(Path(path), MOUNTS) == expected


def test_no_mounts_no_answer() -> None:
    """Without a mount table nothing is claimed."""
    assert filesystem_of(Path("/data"), "") is None


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS and the like the start stops and names both ways out (R146)."""
    kind = filesystem_of(tmp_path.resolve(), Path("/proc/self/mounts").read_text(encoding="utf-8"))
    assert kind is not None
    assert prepare_folder(tmp_path / "local") == ()
    monkeypatch.setattr(folder, "NETWORK_FILESYSTEMS", frozenset({kind}))
    with pytest.raises(StateError, match="--data-dir, or PostgreSQL"):
        prepare_folder(tmp_path / "remote")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A path through a file is refused with the system's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Not a directory"):
        prepare_folder(tmp_path / "file" / "data")


def test_a_link_in_place_of_the_database_is_refused(tmp_path: Path) -> None:
    """The database file is not followed elsewhere through a symbolic link (R142)."""
    (tmp_path / "target").touch(0o600)
    (tmp_path / "vault.db").symlink_to(tmp_path / "target")
    with pytest.raises(StateError, match="cannot be used"):
        prepare_file(tmp_path / "vault.db")


def test_new_files_and_folders_are_ours_alone(tmp_path: Path) -> None:
    """Folder 0700 and file 0600 from their first moment (R142)."""
    assert prepare_folder(tmp_path / "a" / "b") == ()
    assert prepare_file(tmp_path / "a" / "b" / "file") == ()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "file").stat().st_mode) == 0o600
