"""``connector-proxy run``: a program beside the running server, with a key that lives no longer than it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Inside, environment
from support.serving import QUICK, Serve, get, until

from proxy import instance

pytestmark = pytest.mark.traced

SHOW = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ))); raise SystemExit(7)"
ASK = """
import os, ssl, urllib.request
for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPLIB2_CA_CERTS"):
    context = ssl.create_default_context(cafile=os.environ[variable])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    url = "https://" + os.environ["DROPBOX_API_HOST"].partition("/")[0] + "/-/health"
    assert urllib.request.urlopen(url, context=context).status == 200
    assert len(context.get_ca_certs()) > 1
"""


SIGNALLED = """
import os, pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
def note(*_): (folder / "usr1").touch()
def end(*_): sys.exit(33)
signal.signal(signal.SIGUSR1, note)
signal.signal(signal.SIGTERM, end)
(folder / "key.new").write_text(os.environ["PROXY_KEY"])
(folder / "key.new").rename(folder / "key")
while True: signal.pause()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server with TLS."""
    with Serve(tmp_path_factory.mktemp("run"), *QUICK, "--tls-port", "0") as one:
        yield one


@pytest.fixture
def cli(server: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands on its data folder, with two services that have tokens."""
    inside = Inside(server.folder, capsys, monkeypatch)
    inside.set({f"CONNECTOR_PROXY_TOKEN_{name}": "real-token" for name in ("AIRTABLE", "DROPBOX")})
    return inside


def states(cli: Inside) -> dict[str, str]:
    return {one["id"]: one["state"] for one in cli("keys", "list", "--json").document}


def test_environment_key_and_exit_status(
    server: Serve, cli: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program gets addresses, a key for what is connected, NO_PROXY and none of our settings; then the key is dead.

    Its exit status is the command's.
    """
    monkeypatch.setenv("NO_PROXY", "internal.example")
    monkeypatch.delenv("no_proxy", raising=False)
    done = cli("run", "--", sys.executable, "-S", "-c", SHOW, str(tmp_path / "env"))
    assert done.code == 7, done.err
    told = json.loads((tmp_path / "env").read_text())
    base = f"http://127.0.0.1:{server.address[1]}"
    assert told["PROXY_URL"] == base
    assert told["AIRTABLE_ENDPOINT_URL"] == f"{base}/airtable"
    assert told["AIRTABLE_API_KEY"] == told["PROXY_KEY"]
    assert told["DROPBOX_API_CONTENT_HOST"] == f"{server.told['tls'][0]}/dropbox"
    assert "BIGQUERY_EMULATOR_HOST" not in told
    assert told["NO_PROXY"] == "internal.example,localhost,127.0.0.1,::1"
    assert told["no_proxy"] == "localhost,127.0.0.1,::1"
    assert [name for name in told if name.startswith("CONNECTOR_PROXY_")] == []
    assert "real-token" not in told.values()
    assert told["PROXY_KEY"] not in done.err
    key_id = told["PROXY_KEY"].split("_")[1]
    assert f"key {key_id} for airtable dropbox; data folder: {server.data}" in done.err
    assert states(cli)[key_id] == "revoked"
    assert get(server.address, "/airtable/v0/meta/whoami", told["PROXY_KEY"])[0] == 401
    assert not Path(told["SSL_CERT_FILE"]).exists()


def test_the_program_trusts_the_tls_listener(cli: Inside) -> None:
    """Every variable for certificates names the system's roots and ours."""
    done = cli("run", "--service", "dropbox", "--", sys.executable, "-S", "-c", ASK)
    assert done.code == 0, done.err


def test_permits_and_connections(cli: Inside, tmp_path: Path) -> None:
    """``--allow`` narrows the key; a permit for a named account puts that account into the addresses."""
    mark = str(tmp_path / "env")
    done = cli(
        "run", "--allow", "airtable@work:GET", "--expires", "1h", sys.executable, "-S", "-c", SHOW, mark
    )
    assert done.code == 7, done.err
    told = json.loads((tmp_path / "env").read_text())
    assert told["AIRTABLE_ENDPOINT_URL"].endswith("/airtable@work")
    assert "DROPBOX_API_HOST" not in told
    assert "for airtable@work:GET;" in done.err
    assert cli("run", "--allow", "slakc", "true").code == 3
    assert cli("run", "--allow", "*", "--expires", "1h", "true").code == 0


def test_signals_go_on_to_the_program(server: Serve, cli: Inside, tmp_path: Path) -> None:
    """What we are sent reaches the program; when it ends by that, the key is revoked all the same."""
    with subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "proxy",
                "run",
                "--data-dir",
                str(server.data),
                "--service",
                "airtable",
                "--",
            ),
            *(sys.executable, "-S", "-c", SIGNALLED, str(tmp_path)),
        ],
        env=environment(server.folder),
        cwd=server.folder,
        stderr=subprocess.DEVNULL,
    ) as child:
        until((tmp_path / "key").exists, 20, server)
        key_id = (tmp_path / "key").read_text().split("_")[1]
        assert states(cli)[key_id] == "active"
        child.send_signal(signal.SIGUSR1)
        until((tmp_path / "usr1").exists, 30, server)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 33
    assert states(cli)[key_id] == "revoked"


def test_what_cannot_be_run(cli: Inside, tmp_path: Path) -> None:
    """A program that is not there is 127, one that is no program 126, and no key stays behind."""
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for path, status in ((tmp_path / "none", 127), (plain, 126)):
        done = cli("run", str(path))
        assert (done.code, "cannot be started" in done.err) == (status, True), done.err
    assert list(states(cli).values()).count("active") == 1  # the first start's


def test_without_a_server_or_its_vault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run, no vault is made, and the message says what to do."""
    cli = Inside(tmp_path, capsys, monkeypatch)
    mark = tmp_path / "mark"
    done = cli("run", "--", "touch", str(mark))
    assert (done.code, "start 'connector-proxy serve'" in done.err) == (3, True)
    cli.data.mkdir()
    instance.announce(cli.data, {"data": ["127.0.0.1:1"], "tls": []})  # of this process, which holds no lock
    done = cli("run", "--", "touch", str(mark))
    assert (done.code, "declared keys only" in done.err) == (3, True)
    assert not mark.exists()
    assert [path.name for path in cli.data.iterdir()] == ["server.json"]
