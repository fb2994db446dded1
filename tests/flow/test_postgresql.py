"""Servers on PostgreSQL: two on one database, and a database that goes away and comes back (R89, R152, R153)."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.commands import Done, Inside
from support.postgres import Postgres
from support.serving import Serve, get, until
from support.vaults import MASTER

from proxy.following import LATE_S

pytestmark = pytest.mark.traced

ELSEWHERE = 30.0  # 5 s are promised (R89), and a machine that is busy may need more
TOKEN = "xoxp-canary-8d1f"
GIVEN = hashlib.sha256(f"Bearer {TOKEN}".encode()).hexdigest().encode()


class Upstream(BaseHTTPRequestHandler):
    """Says the digest of what it was given: the token itself would be masked."""

    def do_GET(self) -> None:  # the base class's name
        body = hashlib.sha256(self.headers.get("Authorization", "").encode()).hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server for this module, which tests stop and start; each leaves it running."""
    with Postgres() as one:
        yield one


@pytest.fixture
def origin() -> Iterator[str]:
    """The upstream of the service ``acme``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Site:
    """Instances on one database, each with a data folder of its own, and commands beside them."""

    def __init__(self, cli: Inside, own: Postgres, origin: str) -> None:
        folder = cli.folder
        (folder / "services").mkdir()
        (folder / "services" / "acme.toml").write_text(
            f'title = "Acme"\ndocs = "https://example.com"\nverified = "live"\n'
            f'[[hosts]]\nname = "api"\norigin = "{origin}"\n'
        )
        self.folder = folder
        self._cli = cli
        self.database = own.database(empty=True)
        self.config = folder / "site.toml"
        self.config.write_text(
            f"[services]\ndirectory = {json.dumps(str(folder / 'services'))}\nenabled = ['acme']\n"
        )
        self.environment = {
            "CONNECTOR_PROXY_CONFIG": str(self.config),
            "CONNECTOR_PROXY_DATABASE_URL": self.database.url.reveal(),
            "CONNECTOR_PROXY_MASTER_KEY": MASTER.reveal(),
        }

    def instance(self, name: str) -> Serve:
        return Serve(self.folder / name, extra=self.environment)

    def command(self, *args: str, beside: str | None = "one", stdin: bytes = b"") -> Done:
        """A command with the site's settings, on the data folder of an instance."""
        self._cli.set(self.environment)
        where = () if beside is None else ("--data-dir", str(self.folder / beside / "data"))
        return self._cli(*args, *where, stdin=stdin)

    def ready(self, server: Serve) -> int:
        host, port = server.told["control"][0].rsplit(":", 1)
        return get((host.strip("[]"), int(port)), "/readyz")[0]

    def live(self, server: Serve) -> int:
        host, port = server.told["control"][0].rsplit(":", 1)
        return get((host.strip("[]"), int(port)), "/healthz")[0]


@pytest.fixture
def site(
    tmp_path: Path,
    own: Postgres,
    origin: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """An empty database."""
    return Site(Inside(tmp_path, capsys, monkeypatch), own, origin)


def connected(site: Site) -> str:
    """A key and an account, made by commands; the key."""
    key = site.command("keys", "create", "a", "--allow", "acme")
    assert key.code == 0, key
    made = site.command("connect", "acme", "--access-token-stdin", stdin=TOKEN.encode())
    assert made.code == 0, made
    return key.out.strip()


def test_two_instances_on_one_database(site: Site) -> None:
    """Started together on an empty database, they share keys and accounts; a stop at one is one at all (R89, R138, R152)."""
    first = site.instance("one").launch()
    with site.instance("two") as two, first.attach() as one:
        key = connected(site)
        for server in (one, two):
            until(lambda server=server: get(server.address, "/acme/x", key)[0] == 200, ELSEWHERE, server)
            assert get(server.address, "/acme/x", key)[2] == GIVEN
        for words, status in (
            (("connections", "freeze", "--all"), 424),
            (("connections", "freeze", "--all", "--thaw"), 200),
            (("keys", "revoke", "a"), 401),
        ):
            assert site.command(*words, beside="two").code == 0
            for server in (two, one):
                answers = partial(get, server.address, "/acme/x", key)
                until(lambda answers=answers, status=status: answers()[0] == status, ELSEWHERE, server)
        told = [(server.data / "first-run") for server in (one, two)]
        assert sum("cpk_" in path.read_text() for path in told if path.exists()) == 1
        listed = json.loads(site.command("keys", "list", "--json").out)
        assert sorted(key["name"] for key in listed) == ["a", "first"]
        for server in (one, two):
            assert "ready" in server.log
            assert not any(secret in server.log for secret in (TOKEN, MASTER.reveal(), key))


@contextmanager
def frozen(own: Postgres) -> Iterator[None]:
    with own.frozen():
        yield


@contextmanager
def killed(own: Postgres) -> Iterator[None]:
    own.kill()
    try:
        yield
    finally:
        own.start()


@contextmanager
def stopped(own: Postgres) -> Iterator[None]:
    own.stop()
    try:
        yield
    finally:
        own.start()


def test_a_database_that_goes_away_stops_no_caller(site: Site, own: Postgres) -> None:
    """Killed, stopped or hanging: keys and live tokens go on, not ready after 5 s, alive, and back by itself (R153)."""
    with site.instance("one") as one:
        key = connected(site)
        until(lambda: get(one.address, "/acme/x", key)[0] == 200, ELSEWHERE, one)
        ways: tuple[Callable[[Postgres], AbstractContextManager[None]], ...] = (
            killed,
            stopped,
            frozen,
        )
        for way in ways:
            with way(own):
                ended = time.monotonic() + (LATE_S + 20.0 if way is killed else 0.5)
                was_ready = [site.ready(one)]
                while time.monotonic() < ended and was_ready[-1] == 200:
                    assert get(one.address, "/acme/x", key)[:3:2] == (200, GIVEN)
                    assert site.live(one) == 200
                    was_ready.append(site.ready(one))
                    time.sleep(0.05)
                assert (was_ready[-1] == 200) == (way is not killed)
                if way is killed:
                    refused = site.command("keys", "create", "b", "--allow", "acme")
                    assert (refused.code, "does not answer" in refused.err) == (3, True)
            until(lambda: site.ready(one) == 200, 30, one)
            assert site.command("keys", "create", f"{way.__name__}", "--allow", "acme").code == 0
        site.command("keys", "revoke", "a")
        until(lambda: get(one.address, "/acme/x", key)[0] == 401, ELSEWHERE, one)
        events = [event["event"] for event in one.events()]
        assert events.count("vault_unreadable") == events.count("vault_readable_again") >= 2
        with own.frozen():  # and it can be stopped while its database answers nothing
            assert one.stop() == 0


def test_what_a_vault_in_postgresql_needs(site: Site) -> None:
    """A given master key; otherwise commands, start and check say so, and nothing is made (R138)."""
    key = site.environment.pop("CONNECTOR_PROXY_MASTER_KEY")
    for words in (("serve",), ("keys", "create", "a", "--allow", "acme"), ("check",)):
        done = site.command(*words, beside=None)
        assert (done.code, "CONNECTOR_PROXY_MASTER_KEY" in done.err + done.out) == (3, True), done
    site.environment["CONNECTOR_PROXY_MASTER_KEY"] = key
    checked = site.command("check", beside=None)
    assert (checked.code, "will be made in PostgreSQL database" in checked.out) == (0, True), checked
    listed = site.command("keys", "list", "--json")
    assert (listed.code, listed.out.strip()) == (0, "[]")
    there = "SELECT count(*) FROM pg_namespace WHERE nspname = 'connector_proxy'"
    assert site.database.run(there).strip() == "0"  # who only looks makes nothing
    assert site.command("keys", "create", "a", "--allow", "acme").code == 0
    checked = site.command("check", beside=None)
    assert (checked.code, "opens, 0 connections, 1 keys" in checked.out) == (0, True), checked
    assert not list(site.folder.rglob("master.key")) + list(site.folder.rglob("vault.db"))
