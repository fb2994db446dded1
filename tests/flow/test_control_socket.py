"""The control plane on a unix socket: for its owner only, and only one server at a time."""

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.serving import Serve, get

from proxy.errors import StateError
from proxy.listeners import CONTROL, DATA, bind, release
from proxy.settings import Listen

pytestmark = pytest.mark.traced


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where the socket is to be."""
    place = tmp_path / "control.sock"
    yield place
    place.unlink(missing_ok=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_server_without_a_port_for_its_operators(tmp_path: Path, path: Path) -> None:
    """With ``control.listen = ["unix:..."]`` pages, health and metrics are there, for the owner of the socket only (R93)."""
    listen = {"CONNECTOR_PROXY_CONTROL__LISTEN": json.dumps([f"unix:{path}"])}
    with Serve(tmp_path, "--port", "0", extra=listen) as server:
        assert server.told["control"] == [f"unix:{path}"]
        assert mode(path) == 0o600
        assert get(path, "/readyz")[0] == 200
        assert b"connector_proxy_build_info" in get(path, "/metrics")[2]
        status, fields, _ = get(path, "/connect")  # pages have one origin: that of public_url
        assert (status, fields["Location"]) == (303, "http://localhost:8081/connect?moved=1")
    assert not path.exists()


def test_each_plane_has_its_mode(path: Path) -> None:
    """Callers may share a group with the proxy; its operators do not (R93)."""
    for place, wanted in ((CONTROL, 0o600), (DATA, 0o660)):
        listens = [Listen(path=path)]
        release(bind(listens, place), listens)
        sockets = bind(listens, place)
        assert mode(path) == wanted
        release(sockets, listens)
        assert not path.exists()


def test_what_a_killed_server_left_is_replaced(path: Path) -> None:
    """A socket behind which nobody listens is no reason to refuse a start, and gets the mode anew."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    path.chmod(0o777)
    left.close()
    listens = [Listen(path=path)]
    sockets = bind(listens, CONTROL)
    assert mode(path) == 0o600
    release(sockets, listens)


def test_the_socket_of_a_running_server_is_not_taken_away(path: Path) -> None:
    """Where somebody answers, a second server is refused, and the first goes on (R138)."""
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(path))
        first.listen()
        with pytest.raises(StateError, match="in use by another program"):
            bind([Listen(path=path)], CONTROL)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_socket_is_left_alone(path: Path, kind: str) -> None:
    """A file or folder in that place is named and kept: a typo in the settings deletes nothing."""
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
    with pytest.raises(StateError, match="no socket"):
        bind([Listen(path=path)], CONTROL)
    assert path.exists()
    if kind == "folder":
        path.rmdir()


def test_a_link_to_nowhere_is_refused(tmp_path: Path, path: Path) -> None:
    """A dangling link is not followed to make a socket elsewhere."""
    path.symlink_to(tmp_path / "elsewhere.sock")
    with pytest.raises(StateError):
        bind([Listen(path=path)], CONTROL)
    assert not (tmp_path / "elsewhere.sock").exists()
