"""The command line on another machine's proxy: the admin API over TLS, with the output of a local one."""

import http.client
import json
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from support.admin import Api, Site
from support.commands import Done, Inside
from support.serving import Serve, get

from proxy import admintokens

pytestmark = pytest.mark.traced

CANARY = "canary-remote-token-81"


@dataclass(frozen=True, slots=True)
class There:
    """A server with TLS on its control plane. ``ca``: the file of its authority; ``token``: of its operator."""

    site: Site
    ca: Path
    token: str
    key: Path
    authority: trustme.CA

    @property
    def socket(self) -> str:
        return f"unix:{self.ca.with_name('control.sock')}"

    @property
    def url(self) -> str:
        return f"https://localhost:{self.site.address[1]}"


def write_certificate(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = folder / "control.crt", folder / "control.key"
    leaf.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    return chain, key


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    folder = tmp_path_factory.mktemp("there")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    chain, key = write_certificate(authority, folder)
    extra = {
        "CONNECTOR_PROXY_CONTROL__TLS__CERT_FILE": str(chain),
        "CONNECTOR_PROXY_CONTROL__TLS__KEY_FILE": str(key),
        "CONNECTOR_PROXY_CONTROL__LISTEN": json.dumps(["127.0.0.1:0", f"unix:{folder / 'control.sock'}"]),
    }
    with Serve(folder, extra=extra) as server:
        site = Site(server, folder)
        yield There(site, folder / "ca.pem", site.token("remote", "admin"), key, authority)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a data folder of their own."""
    return Inside(tmp_path, capsys, monkeypatch)


@pytest.fixture
def remotely(there: There, cli: Inside) -> Callable[..., Done]:
    """A command on the server, from a folder and environment that know nothing of it."""
    cli.set({"CONNECTOR_PROXY_ADMIN_TOKEN": there.token})

    def run(*args: str, stdin: bytes = b"") -> Done:
        return cli(*args, "--url", there.url, "--ca-file", str(there.ca), stdin=stdin)

    return run


def locally(there: There, cli: Inside, *args: str) -> Done:
    return cli(*args, "--data-dir", str(there.site.server.data))


def test_a_day_of_an_operator_elsewhere(there: There, cli: Inside, remotely: Callable[..., Done]) -> None:
    """Keys, connections, apps, audit: what is done remotely holds there, and both command lines print the same (R166)."""
    made = remotely("keys", "create", "far", "--allow", "slack", "--json")
    assert (made.code, made.err.strip()) == (0, f"server: {there.url}")
    key = made.document["key"]
    token = CANARY.encode()
    saved = remotely("connect", "slack", "--access-token-stdin", "--connection", "work", stdin=token)
    assert saved.out == "Slack User: account 'work' is connected, the default one.\n"
    answer = {"access_token": CANARY, "refresh_token": "r", "expires_in": 7200, "scope": "a b"}
    tokens = json.dumps(answer).encode()
    shown = remotely("connect", "notion", "--tokens-stdin", "--json", stdin=tokens).document
    assert (shown["scopes"], shown["name"]) == (["a", "b"], "default")
    assert (
        remotely(
            "registrations", "set", "google", "--client-id", "id", "--client-secret-stdin", stdin=b"s"
        ).code
        == 0
    )
    assert (
        remotely("connections", "freeze", "slack@work").out
        == "slack@work: is frozen: its token is not handed out.\n"
    )
    for words in (
        ("keys", "list"),
        ("connections", "list"),
        ("connections", "show", "slack"),
        ("registrations", "list"),
        ("services",),
        ("audit",),
        ("audit", "verify"),
    ):
        for form in ((), ("--json",)):
            here, far = locally(there, cli, *words, *form), remotely(*words, *form)
            assert (far.out, far.code) == (here.out, here.code), words
    shown = remotely("events", "--seconds", "0")
    assert (shown.code, shown.out, shown.err) == (0, "", "")
    assert remotely("connections", "freeze", "--all", "--thaw").out == "1 connection in use again.\n"
    assert remotely("connections", "remove", "notion", "--no-revoke").code == 0
    assert [one["name"] for one in remotely("tokens", "list", "--json").document][:1] == ["remote"]
    assert get(there.site.server.address, "/slack/api/auth.test", key)[0] != 401
    assert remotely("keys", "revoke", "far").code == 0
    assert get(there.site.server.address, "/slack/api/auth.test", key)[0] == 401
    assert remotely("keys", "revoke-all", "--json").document["revoked"] >= 0
    assert CANARY not in there.site.server.log


def test_faults_are_told_as_they_are_here(there: There, cli: Inside, remotely: Callable[..., Done]) -> None:
    """What is wrong with a request is said in the same words, with the same exit status, as on a vault here."""
    for words in (
        ("keys", "create", "x", "--allow", "slakc"),
        ("keys", "revoke", "nobody"),
        ("connections", "show", "box"),
        ("connections", "default", "slack@nobody"),
        ("registrations", "remove", "none"),
    ):
        here, far = locally(there, cli, *words), remotely(*words)
        assert (far.code, far.err) == (here.code, here.err), words
        assert far.code == 3


def test_a_flow_is_followed_until_its_end(there: There, cli: Inside, remotely: Callable[..., Done]) -> None:
    """``connect`` shows the server's link and code; what has to be registered first is told before."""
    refused = remotely("connect", "discord", "--no-browser")
    assert (refused.code, "no app is registered for Discord" in refused.err) == (3, True)
    assert remotely("connect", "discord", "--paste").code == 2
    assert locally(there, cli, "connect", "discord", "--access-token-stdin").code == 3


def test_the_socket_of_a_server_takes_commands(there: There, cli: Inside, tmp_path: Path) -> None:
    """``--url unix:/path`` does what ``https://`` does, without TLS; the socket alone is no credential (R93, R166)."""
    cli.set({"CONNECTOR_PROXY_ADMIN_TOKEN": there.token})
    made = cli("keys", "create", "near", "--allow", "slack", "--json", "--url", there.socket)
    assert (made.code, made.err.strip()) == (0, f"server: {there.socket}")
    listed = cli("keys", "list", "--json", "--url", there.socket).document
    assert "near" in {one["name"] for one in listed}
    assert listed == locally(there, cli, "keys", "list", "--json").document
    assert cli("keys", "revoke", "near", "--url", there.socket).code == 0
    assert cli("events", "--seconds", "0", "--url", there.socket).code == 0
    assert locally(there, cli, "events", "--seconds", "0").code == 0
    cli.set({"CONNECTOR_PROXY_ADMIN_TOKEN": there.token[:-8] + "AAAAAAAA"})
    assert cli("keys", "list", "--url", there.socket).code == 3
    cli.set({})
    assert "CONNECTOR_PROXY_ADMIN_TOKEN" in cli("keys", "list", "--url", there.socket).err
    cli.set({"CONNECTOR_PROXY_ADMIN_TOKEN": there.token})
    nowhere = cli("keys", "list", "--url", f"unix:{tmp_path}/none.sock")
    assert (nowhere.code, "none.sock: cannot be reached" in nowhere.err) == (1, True)
    for bad in ("unix:control.sock", "unix:", "unix:/a\0b"):
        assert "unix:/PATH" in cli("keys", "list", "--url", bad).err


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (b"SSH-2.0-there\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "the connection broke"),
        (
            b"HTTP/1.1 401 x\r\nContent-Length: 22\r\n\r\n" + b'{"code":"invalid_key"}',
            "that is the data plane",
        ),
    ],
)
def test_what_answers_there_is_no_control_plane(cli: Inside, told: bytes, words: str) -> None:
    """Another program, one that breaks off (asked twice), our own data plane: each is told in a sentence."""
    cli.set({"CONNECTOR_PROXY_ADMIN_TOKEN": admintokens.generate()[1].reveal()})
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as other:

        def answer() -> None:
            while True:
                connection = server.accept()[0]
                with connection:
                    connection.recv(65_536)
                    connection.sendall(told)

        ended = other.submit(answer)
        done = cli("keys", "list", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
        wait([ended])
    assert words in done.err
    assert "fault of this program" not in done.err
    assert done.code in {1, 3}


def test_what_the_way_there_refuses(there: There, cli: Inside, tmp_path: Path) -> None:
    """No token, a wrong one, an unknown authority, plain HTTP to elsewhere, a server that is not there: each is a sentence."""
    ca = ("--ca-file", str(there.ca))
    cli.set({})
    assert "CONNECTOR_PROXY_ADMIN_TOKEN" in cli("keys", "list", "--url", there.url, *ca).err
    (tmp_path / "token").write_text("cpk_no")
    assert (
        "begins with cpa_"
        in cli("keys", "list", "--url", there.url, "--token-file", str(tmp_path / "token")).err
    )
    (tmp_path / "token").write_text(there.token + "\n")
    given = ("--token-file", str(tmp_path / "token"))
    assert cli("keys", "list", "--url", there.url, *ca, *given).code == 0
    stranger = cli("keys", "list", "--url", there.url, *given)
    assert (stranger.code, "certificate is not trusted" in stranger.err) == (1, True)
    assert cli("keys", "list", "--url", "http://proxy.example", *given).code == 3
    assert cli("keys", "list", "--url", f"{there.url}/keys", *given).code == 3
    assert cli("keys", "list", "--url", "https://localhost:1", *given).code == 1
    assert cli("keys", "list", "--url", there.url, "--data-dir", "x", *given).code == 2
    assert cli("keys", "list", "--token-file", "x").code == 2
    (tmp_path / "token").write_text(there.site.token("reader", "read"))
    assert "keys:write" in cli("keys", "revoke-all", "--url", there.url, *ca, *given).err
    for done in (stranger,):
        assert there.token not in done.err


def test_a_renewed_certificate_is_shown_after_a_reload(there: There) -> None:
    """SIGHUP takes the certificate that the files hold by then; nothing has to restart, and plain HTTP gets no answer."""
    context = ssl.create_default_context(cafile=str(there.ca))

    def serial() -> str:
        with (
            socket.create_connection(there.site.address) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as one,
        ):
            return str(one.getpeercert()["serialNumber"])  # type: ignore[index]  # it is verified

    before = serial()
    write_certificate(there.authority, there.site.folder)
    there.site.server.signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while serial() == before:
        assert time.monotonic() < deadline
    with pytest.raises((OSError, http.client.HTTPException)):
        Api(there.site.address)("GET", "/health")
    assert Api(there.site.address, there.token, context)("GET", "/health").body["public_url"] == there.url
