"""The environment of a program that ``connector-proxy run`` starts."""

import os
import signal
import threading
from pathlib import Path

import pytest

from proxy import launch
from proxy.catalog.recipes import load_recipes
from proxy.errors import StateError
from proxy.snippets import Places

RECIPES = load_recipes()
PLACES = Places("http://proxy.internal:8080", "https://localhost:8443", "/ca.pem")


def made(inherited: dict[str, str], *services: str, has_tls: bool = False) -> dict[str, str]:
    return launch.child_environment(
        inherited, places=PLACES, services=services, recipes=RECIPES, key="cpk_k", has_tls=has_tls
    )


def test_only_what_fits_is_set() -> None:
    """Variables of services that the key may call, those that insist on https only beside a TLS listener."""
    told = made({"A": "1", "CONNECTOR_PROXY_MASTER_KEY": "secret"}, "dropbox", "googlebigquery@work")
    assert told == {
        "A": "1",
        "BIGQUERY_EMULATOR_HOST": "http://proxy.internal:8080/googlebigquery@work",
        "NO_PROXY": "localhost,127.0.0.1,::1,proxy.internal",
        "no_proxy": "localhost,127.0.0.1,::1,proxy.internal",
        "PROXY_URL": "http://proxy.internal:8080",
        "PROXY_KEY": "cpk_k",
    }
    assert made({}, "dropbox", has_tls=True)["DROPBOX_API_HOST"] == "localhost:8443/dropbox"


def test_certificates_of_before_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment or the system trusts already comes first; ours is added, the files before are not changed."""
    ours, before, system = (tmp_path / name for name in ("ours.pem", "before.pem", "system.pem"))
    for path in (ours, before, system):
        path.write_text(f"{path.stem}\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    folder = tmp_path / "run"
    folder.mkdir()
    told = launch.trusting({"REQUESTS_CA_BUNDLE": str(before)}, ours, folder)
    read = {name: Path(path).read_text() for name, path in told.items()}
    assert read == {
        "SSL_CERT_FILE": "system\nours\n",
        "REQUESTS_CA_BUNDLE": "before\nours\n",
        "HTTPLIB2_CA_CERTS": "system\nours\n",
        "NODE_EXTRA_CA_CERTS": "ours\n",
    }
    assert before.read_text() == "before\n"
    with pytest.raises(StateError, match=r"none\.pem cannot be used"):
        launch.trusting({"SSL_CERT_FILE": str(tmp_path / "none.pem")}, ours, folder)


def test_roots_in_a_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenSSL has a folder of hashed names and no file, each certificate counts once."""
    (tmp_path / "root.pem").write_text("root")
    for name in ("0123abcd.0", "89abcdef.0"):
        (tmp_path / name).symlink_to("root.pem")
    (tmp_path / "README").write_text("not a certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert launch.system_roots() == b"root"


def test_a_signal_before_the_program_is_kept_from_us_and_told() -> None:
    """While a key is made nothing ends us half-way; the signal is found afterwards and gone at the end of the block."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with launch.signals_held() as before:
        assert before == mask
        assert launch.interrupted() is None
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        assert launch.interrupted() == 128 + signal.SIGTERM
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_status_of_a_program() -> None:
    """The exit status, or 128 and the signal that ended it; one that cannot start tells a shell's status."""
    with launch.signals_held() as mask:
        assert launch.run_child(["sh", "-c", "exit 5"], dict(os.environ), mask) == 5
        assert launch.run_child(["sh", "-c", "kill -KILL $$"], dict(os.environ), mask) == 128 + 9
        with pytest.raises(launch.NotStartedError) as caught:
            launch.run_child(["/nowhere/none"], {}, mask)
    assert caught.value.status == 127
