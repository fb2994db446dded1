"""``serve`` from its start to its end: refusals, addresses, lock, signals, reload, a sidecar without a disk."""

import contextlib
import http.client
import json
import os
import pty
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.admin import Site
from support.certificates import Authority
from support.commands import Inside, command, environment, unmeasured
from support.serving import QUICK, Serve, declared_key, get, sidecar, until

pytestmark = pytest.mark.traced
HEALTH = "/-/health"
ECHO = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.headers.get("Authorization") or "-").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def echo_upstream() -> Iterator[int]:
    """A plain service on loopback that answers every request with the Authorization it got; its port."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            ECHO,
        ],
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        try:
            yield int(child.stdout.readline())
        finally:
            child.kill()


@pytest.fixture
def inside(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands in this process: what ``serve`` refuses before it starts anything needs no process of its own."""
    return Inside(tmp_path, capsys, monkeypatch)


def end(server: Serve, number: signal.Signals) -> None:
    """Both signals end an idle server at once with status 0, without a traceback (R70)."""
    server.signal(number)
    assert server.wait() == 0
    assert "Traceback" not in server.log
    assert server.event("stopped")["clean"] is True


def leaf_of(authority: Authority, folder: Path) -> Path:
    """Certificate and key for localhost in one file."""
    path = folder / "leaf.pem"
    authority._ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


# --- where it listens -----------------------------------------------------------------------------------


def test_first_start_makes_a_private_folder_and_one_key(tmp_path: Path) -> None:
    """Folder 0700, files 0600; the first key lies in first-run, works, and only its path is logged (R142)."""
    with Serve(tmp_path) as server:
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.data.iterdir()}
        assert set(modes.values()) == {0o600}, modes
        first = (server.data / "first-run").read_text()
        key = next(word for word in first.split() if word.startswith("cpk_"))
        assert get(server.address, "/github/user", key)[0] == 424
        assert server.event("first_run_written")["path"] == str(server.data / "first-run")
        assert key not in server.log
        end(server, signal.SIGINT)
    with Serve(tmp_path) as server:
        assert "first_run_written" not in server.log
        assert get(server.address, "/github/user", key)[0] == 424


def test_the_commands_of_the_first_run_work_as_printed(tmp_path: Path, inside: Inside) -> None:
    """From another folder and with nothing but a shell, each line does what it says; so does that of a 424."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "token-file").write_text("ghp_made_up\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "connector-proxy").write_text(f'#!/bin/sh\nexec {sys.executable} -m proxy "$@"\n')
    (programs / "connector-proxy").chmod(0o700)
    extra = {"PATH": f"{programs}:{os.environ['PATH']}"}

    def sh(line: str) -> str:
        return subprocess.run(
            ["sh", "-c", line],
            check=True,
            capture_output=True,
            text=True,
            cwd=elsewhere,
            env=unmeasured(environment(tmp_path, extra)),
            timeout=60,
        ).stdout.strip()

    with Serve(tmp_path, data_dir="a data folder") as server:
        text = (server.data / "first-run").read_text()
        connect, create, revoke, password = (
            line.strip() for line in text.splitlines() if line.startswith("    connector-proxy")
        )
        first = next(word for word in text.split() if word.startswith("cpk_"))
        status, _, body = get(server.address, "/airtable/v0/meta/whoami", first)
        printed = json.dumps(json.loads(body)).split("'")[1]
        assert (status, printed) == (
            424,
            "connector-proxy connect airtable",
        )
        printed = f"CONNECTOR_PROXY_DATA_DIR='{server.data}' {printed}"
        assert "registrations set airtable" in sh(f"{printed} 2>&1 || test $? = 3")
        sh(f"{connect} && {printed} --access-token-stdin < token-file")
        key = sh(create)
        sh(revoke)
        assert sh(password) not in text  # a new one
        assert get(server.address, "/github/user", first)[0] == 401
        assert get(server.address, "/box/2.0/users/me", key)[0] == 403
    listed = inside("connections", "list", "--json", "--data-dir", str(server.data)).document
    assert [one["service"] for one in listed] == ["airtable", "github"]


def test_first_key_is_shown_on_a_terminal(tmp_path: Path) -> None:
    """Whoever starts it by hand sees the first key once, and no file holds it."""
    primary, secondary = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "proxy", "serve", "--data-dir", str(tmp_path / "data"), *QUICK],
        stdout=secondary,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=environment(tmp_path),
        cwd=tmp_path,
    )
    os.close(secondary)
    shown = b""
    try:
        while b"keys revoke first" not in shown:
            shown += os.read(primary, 4096)
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
        os.close(primary)
    assert b"cpk_" in shown
    assert not (tmp_path / "data" / "first-run").exists()


def test_server_json_tells_bound_addresses_and_goes_away(tmp_path: Path) -> None:
    """With port 0 the real ports are in server.json as soon as they answer; at a stop in order it is removed."""
    with Serve(tmp_path) as server:
        assert set(server.told) == {"pid", "data", "tls", "control", "listeners", "public_url"}
        assert server.told["pid"] == server.pid
        hosts = {text.rpartition(":")[0]: int(text.rpartition(":")[2]) for text in server.told["data"]}
        assert "127.0.0.1" in hosts
        assert len(set(hosts.values())) == 1
        for host, port in hosts.items():
            status, _, body = get((host.strip("[]"), port), HEALTH)
            assert (status, json.loads(body)) == (200, {"status": "ok"})
        control = server.told["control"][0].rpartition(":")
        assert get((control[0], int(control[2])), "/readyz")[0] == 200
        assert get((control[0], int(control[2])), "/metrics")[0] == 200
        assert get(server.address, "/metrics")[0] == 401
        end(server, signal.SIGTERM)
    assert not (server.data / "server.json").exists()


def test_unix_socket_and_tls_beside_tcp(tmp_path: Path, authority: Authority) -> None:
    """The data plane listens on a unix socket (owner and group only), on TCP and with TLS (1.2 and 1.3) at once."""
    path = tmp_path / "proxy.sock"
    leaf = leaf_of(authority, tmp_path)
    (tmp_path / "proxy.toml").write_text(
        f'[data]\nlisten = ["127.0.0.1:0", "unix:{path}"]\n'
        f'[data.tls]\nlisten = ["127.0.0.1:0"]\ncert_file = "{leaf}"\nkey_file = "{leaf}"\n'
        '[control]\nlisten = ["127.0.0.1:0"]\n'
    )
    with Serve(tmp_path, "--config", str(tmp_path / "proxy.toml")) as server:
        assert get(server.address, HEALTH)[0] == 200
        assert get(path, HEALTH)[0] == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        host, _, port = server.told["tls"][0].rpartition(":")
        with (
            socket.create_connection((host, int(port)), 20) as plain,
            authority.trusting().wrap_socket(plain, server_hostname="localhost") as one,
        ):
            one.sendall(b"GET /-/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
        old = authority.trusting()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with (
            socket.create_connection((host, int(port)), 20) as plain,
            pytest.raises((ssl.SSLError, ConnectionError)),
        ):
            old.wrap_socket(plain, server_hostname="localhost")
        server.kill()
    assert path.exists()
    with Serve(
        tmp_path, "--config", str(tmp_path / "proxy.toml")
    ) as server:  # what a killed one left is replaced
        assert get(path, HEALTH)[0] == 200
    assert not path.exists()


# --- refusals -------------------------------------------------------------------------------------------


def refused(inside: Inside, *args: str) -> str:
    """What ``serve`` says when it ends with status 3 and without a traceback."""
    done = inside("serve", *(args or QUICK))
    assert done.code == 3, done
    assert "Traceback" not in done.err
    return done.err


def refused_apart(folder: Path, flags: tuple[str, ...] = (), **extra: str) -> str:
    """The same from a process of its own, whose Python is another one."""
    where = ("--data-dir", str(folder / "data"), *QUICK)
    done = command("serve", *where, folder=folder, flags=flags, extra=extra)
    assert (done.code, "Traceback" in done.err) == (3, False), done
    return done.err


def test_second_serve_names_the_first(tmp_path: Path, inside: Inside) -> None:
    """One data folder has one server; the second exits 3 and names its pid. A killed one leaves no lock."""
    with Serve(tmp_path) as server:
        said = refused(inside)
        assert str(server.pid) in said
        assert "--data-dir" in said
        assert get(server.address, HEALTH)[0] == 200
        server.kill()
    with Serve(tmp_path) as server:
        assert get(server.address, HEALTH)[0] == 200


@pytest.mark.parametrize("flag", ["--port", "--control-port"])
def test_port_in_use_names_the_flag(inside: Inside, flag: str) -> None:
    """A taken port exits 3 and says which flag chooses another; no vault was made."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        other = "--control-port" if flag == "--port" else "--port"
        said = refused(inside, other, "0", flag, port)
        assert [port in said, flag in said, "in use" in said] == [True] * 3
    assert not (inside.data / "vault.db").exists()


def test_an_address_that_is_not_ours_is_refused(inside: Inside) -> None:
    """Listening on another machine's address exits 3 and names the setting."""
    assert "data.listen" in refused(inside, "--host", "192.0.2.1", *QUICK)


def test_unknown_settings_are_refused(inside: Inside) -> None:
    """Misspelt settings in file and environment are all told, with the nearest name (R159, R160)."""
    (inside.folder / "proxy.toml").write_text("[limits]\nconections = 5\n")
    inside.set({"CONNECTOR_PROXY_DATA__LISTENN": "[]"})
    said = refused(inside)
    assert ["connections" in said, "CONNECTOR_PROXY_DATA__LISTEN" in said] == [True, True]


def test_optimised_python_is_refused(tmp_path: Path) -> None:
    """``python -O`` takes checks out of aiohttp (CVE-2025-69227): exit 3, saying what to leave out (R159)."""
    assert "-O" in refused_apart(tmp_path, flags=("-O",))


def test_pure_python_parser_is_refused(tmp_path: Path) -> None:
    """AIOHTTP_NO_EXTENSIONS turns the strict parser off: exit 3, naming it (R159)."""
    assert "AIOHTTP_NO_EXTENSIONS" in refused_apart(tmp_path, AIOHTTP_NO_EXTENSIONS="1")


@pytest.mark.parametrize("number", ["0", "-1", "many", "1000"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(inside: Inside, number: str) -> None:
    """Status 2, as for any mistake on the command line, and what would be right."""
    done = inside("serve", "--workers", number)
    assert done.code == 2
    assert "a number from 1 to" in " ".join(done.err.split())


def test_master_key_that_others_can_read_is_refused(inside: Inside) -> None:
    """A key file open to others exits 3 with the command that mends it (R159)."""
    assert inside("keys", "create", "a", "--allow", "*").code == 0
    (inside.data / "master.key").chmod(0o640)
    assert "chmod 600" in refused(inside)


def test_wrong_or_missing_master_key_is_refused(inside: Inside) -> None:
    """Another key, or none, never opens or overwrites a vault: exit 3; the old key still opens it (R138, R139)."""
    assert inside("keys", "create", "a", "--allow", "*").code == 0
    key_file = inside.data / "master.key"
    saved = key_file.read_text()
    for text in ("A" * 43 + "\n", "short\n", ""):
        key_file.write_text(text)
        said = refused(inside)
        assert "master key" in said
        assert saved.strip() not in said
    key_file.unlink()
    assert "missing" in refused(inside)
    assert not key_file.exists()
    key_file.write_text(saved)
    key_file.chmod(0o600)
    with Serve(inside.folder) as server:
        assert get(server.address, HEALTH)[0] == 200


def test_unwritable_data_folder_is_refused(inside: Inside) -> None:
    """A data folder that is a file, or cannot be written, exits 3 and names it."""
    inside.data.write_text("a file")
    assert str(inside.data) in refused(inside)


def test_a_data_folder_that_cannot_be_made_is_refused(inside: Inside) -> None:
    """Where nobody may write, not even root, it exits 3 and names the folder."""
    assert "/proc/connector-proxy" in refused(inside, "--data-dir", "/proc/connector-proxy", *QUICK)


@contextlib.contextmanager
def unmounted() -> Iterator[Path]:
    """A folder on the root's own file system: the first of those where one may be made."""
    for parent in map(Path, (tempfile.gettempdir(), Path.home(), Path.cwd(), sys.prefix, "/opt", "/")):
        where = (parent.resolve(), *parent.resolve().parents)
        if os.access(parent, os.W_OK) and not any(path.is_mount() for path in where if path != Path("/")):
            with tempfile.TemporaryDirectory(dir=parent) as folder:
                yield Path(folder)
            return
    raise AssertionError("this machine lets us write to mounted file systems only")


def test_container_without_a_mount_gets_no_master_key(inside: Inside) -> None:
    """With storage.require_mount a key is never made where it would go away with the container."""
    with unmounted() as folder:
        inside.set({"CONNECTOR_PROXY_STORAGE__REQUIRE_MOUNT": "true"})
        said = refused(inside, "--data-dir", str(folder / "data"), *QUICK)
        assert "CONNECTOR_PROXY_MASTER_KEY" in said
        assert not (folder / "data" / "master.key").exists()


# --- signals --------------------------------------------------------------------------------------------


def test_second_signal_forces(tmp_path: Path) -> None:
    """While a request holds the drain up, health says 503, and a second signal ends it at once (R70)."""
    with socket.socket() as silent, socket.socket() as caller:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        key, hashed = declared_key()
        (tmp_path / "proxy.toml").write_text(sidecar(tmp_path, hashed, upstream_port=silent.getsockname()[1]))
        with Serve(tmp_path, extra={"CONNECTOR_PROXY_TOKEN_SIDE": "t"}) as server:
            with socket.create_connection(server.address, 20) as waiting:
                waiting.sendall(
                    f"GET /side/x HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
                )
                silent.settimeout(20)
                upstream, _ = silent.accept()
                with upstream:
                    server.signal(signal.SIGTERM)
                    server.event("stopping")
                    caller.settimeout(20)
                    with pytest.raises(ConnectionRefusedError):
                        caller.connect(server.address)
                    until(lambda: _forces(server), 30, server)
            assert server.wait() == 1
            assert server.event("forced_stop")


def test_a_forced_stop_leaves_another_servers_mark_alone(tmp_path: Path) -> None:
    """A server without a folder of its own, stopped twice, does not take away where the folder's owner listens."""
    with socket.socket() as silent, Serve(tmp_path / "owner") as owner:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(20)
        key, hashed = declared_key()
        (tmp_path / "proxy.toml").write_text(sidecar(tmp_path, hashed, upstream_port=silent.getsockname()[1]))
        guest = Serve(
            tmp_path / "guest",
            *("--config", str(tmp_path / "proxy.toml"), *QUICK),
            data_dir=str(owner.data),
            extra={"CONNECTOR_PROXY_TOKEN_SIDE": "t"},
        ).launch()
        try:
            host, _, port = guest.event("ready")["data"][0].rpartition(":")
            assert str(owner.pid) in guest.event("data_folder_unused")["reason"]
            with socket.create_connection((host, int(port)), 20) as waiting:
                waiting.sendall(
                    f"GET /side/x HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
                )
                upstream, _ = silent.accept()
                with upstream:
                    until(lambda: _forces(guest), 30, guest)
            assert guest.event("forced_stop")
        finally:
            guest.stop()
        assert json.loads((owner.data / "server.json").read_text())["pid"] == owner.pid


def _forces(server: Serve) -> bool:
    server.signal(signal.SIGTERM)
    return not server.running


# --- reload ---------------------------------------------------------------------------------------------


def test_reload_is_all_or_nothing_and_drops_nobody(tmp_path: Path) -> None:
    """SIGHUP takes a new key and service over on an open connection; a fault changes nothing at all (R160)."""
    with echo_upstream() as port:
        key, hashed = declared_key()
        other, other_hashed = declared_key()
        settings = tmp_path / "proxy.toml"
        text = sidecar(tmp_path, hashed, upstream_port=port)
        settings.write_text(text)
        with (
            Serve(tmp_path, extra={"CONNECTOR_PROXY_TOKEN_SIDE": "t"}) as server,
            contextlib.closing(socket.create_connection(server.address, 20)) as kept,
        ):

            def ask(key: str) -> int:
                kept.sendall(
                    f"GET /side/x HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
                )
                got = http.client.HTTPResponse(kept)
                got.begin()
                got.read()
                return got.status

            assert ask(key) == 200
            settings.write_text(text + "[dta]\n" + f'[keys.two]\nhash = "{other_hashed}"\nallow = ["side"]\n')
            server.signal(signal.SIGHUP)
            assert "dta" in server.event("reload_refused")["reason"]
            assert ask(other) == 401
            settings.write_text(text.replace(hashed, other_hashed) + "[limits]\nconnections = 7\n")
            server.signal(signal.SIGHUP)
            assert server.event("reloaded")["after_restart"] == ["limits"]
            assert ask(other) == 200
            assert ask(key) == 401


def slow_key(folder: Path, key: str) -> str:
    """A key's ``hash`` from a command that notes each start in ``runs`` and ends once ``go`` is there."""
    (folder / "key.sh").write_text(
        f"#!/bin/sh\necho run >> {folder}/runs\n"
        f"while [ ! -e {folder}/go ]; do sleep 0.02; done\ncat {folder}/key.txt\n"
    )
    (folder / "key.txt").write_text(key)
    return f'hash = {{ command = ["sh", "{folder}/key.sh"] }}'


def runs(folder: Path) -> int:
    """How often the command of :func:`slow_key` was started."""
    return len((folder / "runs").read_text().splitlines()) if (folder / "runs").exists() else 0


def test_a_slow_reload_holds_up_nobody_and_the_next_one_is_remembered(tmp_path: Path) -> None:
    """While a key's command runs, calls are answered; signals meanwhile lead to one more reload, not to many (R160)."""
    with echo_upstream() as port:
        key, hashed = declared_key()
        first, second = declared_key()[0], declared_key()[0]
        settings = tmp_path / "proxy.toml"
        text = sidecar(tmp_path, hashed, upstream_port=port)
        settings.write_text(text)
        with Serve(tmp_path, extra={"CONNECTOR_PROXY_TOKEN_SIDE": "t"}) as server:
            settings.write_text(f'{text}[keys.slow]\n{slow_key(tmp_path, first)}\nallow = ["side"]\n')
            server.signal(signal.SIGHUP)
            until(lambda: runs(tmp_path) == 1, 30, server)
            assert get(server.address, "/side/x", key)[0] == 200
            for _ in range(3):
                server.signal(signal.SIGHUP)
                assert get(server.address, "/side/x", key)[0] == 200
            assert runs(tmp_path) == 1
            (tmp_path / "go").touch()
            until(
                lambda: len([one for one in server.events() if one["event"] == "reloaded"]) == 2, 30, server
            )
            assert runs(tmp_path) == 2
            assert get(server.address, "/side/x", first)[0] == 200
            (tmp_path / "key.txt").write_text(second)
            server.signal(signal.SIGHUP)
            until(lambda: get(server.address, "/side/x", second)[0] == 200, 30, server)
            assert get(server.address, "/side/x", first)[0] == 401


def test_stopping_does_not_wait_for_a_reload(tmp_path: Path) -> None:
    """A server that is asked to stop while a reload waits for a command ends at once, with status 0 (R70)."""
    key, hashed = declared_key()
    settings = tmp_path / "proxy.toml"
    text = sidecar(tmp_path, hashed, upstream_port=9)
    settings.write_text(text)
    with Serve(tmp_path, extra={"CONNECTOR_PROXY_TOKEN_SIDE": "t"}) as server:
        settings.write_text(f'{text}[keys.slow]\n{slow_key(tmp_path, key)}\nallow = ["side"]\n')
        server.signal(signal.SIGHUP)
        until(lambda: runs(tmp_path) == 1, 30, server)
        server.signal(signal.SIGTERM)
        try:
            assert server.wait() == 0
            assert "Traceback" not in server.log
        finally:
            (tmp_path / "go").touch()  # ends the command too


# --- a sidecar ------------------------------------------------------------------------------------------


def test_sidecar_needs_no_disk(tmp_path: Path) -> None:
    """With a declared key and a static token nothing is written anywhere, and calls go through with the token."""
    with echo_upstream() as port:
        key, hashed = declared_key()
        (tmp_path / "proxy.toml").write_text(sidecar(tmp_path, hashed, upstream_port=port))
        before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
        server = Serve(
            tmp_path, data_dir=None, extra={"CONNECTOR_PROXY_TOKEN_SIDE": "the-real-token"}
        ).launch()
        try:
            ready = server.event("ready")
            host, _, number = ready["data"][0].rpartition(":")
            status, _, body = get((host, int(number)), "/side/x", key)
            assert (status, body) == (200, b"Bearer the-real-token")
            assert ready["data_folder"] is None
        finally:
            assert server.stop() == 0
        after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
        assert after - set(before) == {Path("stdout.txt"), Path("stderr.txt")}


def test_sidecar_runs_where_nothing_can_be_written(tmp_path: Path) -> None:
    """No home, working or temporary folder that takes a file, and none that may grow: it serves all the same."""
    nowhere = (
        "sh", "-c", 'cd /proc && ulimit -f 0 && ! mkdir "$HOME" 2>&- && exec "$@" 2>&1', "sh",
    )  # fmt: skip
    with echo_upstream() as port:
        key, hashed = declared_key()
        (tmp_path / "proxy.toml").write_text(sidecar(tmp_path, hashed, upstream_port=port))
        child = subprocess.Popen(
            [
                *nowhere,
                *(sys.executable, "-m", "proxy", "serve", "--config", str(tmp_path / "proxy.toml"), *QUICK),
            ],
            stdout=subprocess.PIPE,
            env={
                **environment(Path("/proc/nobody"), {"CONNECTOR_PROXY_TOKEN_SIDE": "t"}),
                "CONNECTOR_PROXY_LOG__FORMAT": "json",
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": "/proc/nobody",
            },
        )
        assert child.stdout is not None
        try:
            ready = next(event for event in map(json.loads, child.stdout) if event["event"] == "ready")
            host, _, number = ready["data"][0].rpartition(":")
            assert get((host, int(number)), "/side/x", key)[0] == 200
            assert ready["data_folder"] is None
        finally:
            child.terminate()
            child.communicate(timeout=30)
        assert child.returncode == 0


def test_what_keys_did_and_permits_would_have_refused_outlives_a_restart(tmp_path: Path) -> None:
    """A key's calls, and those that its observing permits would refuse, are counted in the vault at the end (R90, R157)."""
    with Serve(tmp_path) as server:
        site = Site(server, tmp_path)
        key = site.run("keys", "create", "trial", "--allow", "github:POST", "--observe")
        for _ in range(2):
            assert get(server.address, "/github/user?q=canary", key)[0] == 424
        assert server.stop() == 0
    (told,) = json.loads(site.run("keys", "observed", "trial", "--json"))
    assert (told["service"], told["method"], told["path"]) == ("github", "GET", "/github/user")
    assert told["requests"] == 2
    with contextlib.closing(sqlite3.connect(server.data / "vault.db")) as vault:
        called = vault.execute(
            "SELECT service, connection, method, outcome, requests FROM key_days"
        ).fetchall()
    assert called == [("github", "-", "read", "refused", 2)]
