"""``services``, ``check``, ``version``."""

from pathlib import Path

import pytest
from support.commands import Inside

from proxy import __version__
from proxy.catalog.loader import load_file


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a data folder of their own."""
    return Inside(tmp_path, capsys, monkeypatch)


def test_services_have_the_promised_members(cli: Inside) -> None:
    """All 32 services with the members that programs rely on, and the alias says the same."""
    told = cli("services", "--json").document
    assert len(told) == 32
    members = {"id", "title", "hosts", "params", "verified", "yours", "can_verify", "connected"}
    assert all(set(one) == members for one in told)
    slack = next(one for one in told if one["id"] == "slack")
    assert (slack["title"], slack["connected"]) == ("Slack User", False)
    assert "https://slack.com" in slack["hosts"]
    assert cli("connectors", "list-available", "--json").document == told
    assert not cli.data.exists()


def test_connected_follows_vault_and_settings(cli: Inside) -> None:
    """A service counts as connected when an account is stored or its source is configured."""
    cli("connect", "slack", "--access-token-stdin", stdin=b"t")
    (cli.folder / "proxy.toml").write_text('[sources.github]\nkind = "static"\ntoken = { env = "GITHUB" }\n')
    told = {one["id"] for one in cli("services", "--json").document if one["connected"]}
    assert told == {"slack", "github"}


def test_new_service_loads_and_is_listed(cli: Inside) -> None:
    """``services new`` writes a file that is valid as it is, says how to use it, and never overwrites."""
    done = cli("services", "new", "acme")
    assert done.code == 0
    path = cli.folder / "services" / "acme.toml"
    assert load_file(path, user=True).hosts[0].origin.text == "https://{subdomain}.example.com"
    assert "[services] directory" in done.err
    (cli.folder / "proxy.toml").write_text('[services]\ndirectory = "services"\n')
    assert "acme" in {one["id"] for one in cli("services", "--json").document}
    assert cli("services", "new", "acme").code == 3
    assert cli("services", "new", "slack").code == 3
    assert cli("services", "new", "../evil").code == 3
    assert cli("services", "new", "other", "--json").document["file"].endswith("other.toml")


def test_check_is_content_with_an_empty_machine(cli: Inside) -> None:
    """Nothing configured is a valid configuration; checking makes no vault."""
    told = cli("check", "--json")
    assert (told.code, told.document["ok"], told.document["faults"]) == (0, True, [])
    assert not cli.data.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("connections", "show", "slack"),
        ("connections", "freeze", "slack"),
        ("connections", "verify", "slack"),
        ("connections", "remove", "slack"),
        ("registrations", "remove", "google"),
        ("keys", "revoke", "backend"),
        ("users", "remove", "ada"),
    ],
    ids=" ".join,
)
def test_what_keeps_nothing_makes_no_vault(cli: Inside, words: tuple[str, ...]) -> None:
    """A mistyped data folder stays as it was: only what has something to keep makes a vault."""
    done = cli(*words)
    assert done.code == 3
    assert "there is no" in done.err
    assert not cli.data.exists()


def test_check_tells_all_faults_of_all_files_at_once(cli: Inside) -> None:
    """Settings and services are read to the end, and every fault names its place (R160)."""
    (cli.folder / "services").mkdir()
    (cli.folder / "services" / "a.toml").write_text('titel = "A"\n')
    (cli.folder / "services" / "b.toml").write_text("not toml")
    (cli.folder / "proxy.toml").write_text(
        '[services]\ndirectory = "services"\n'
        '[keys.side]\nhash = { env = "NO_SUCH_VARIABLE" }\nallow = ["slack:get"]\n'
        '[data.tls]\nlisten = ["127.0.0.1:8443"]\ncert_file = "none.pem"\nkey_file = "none.pem"\n'
    )
    done = cli("check", "--json")
    assert done.code == 3
    places = " ".join(fault["place"] for fault in done.document["faults"])
    for part in ("a.toml", "b.toml", "keys.side.hash", "keys.side.allow", "data.tls"):
        assert part in places, part


def test_check_names_unknown_settings_and_services(cli: Inside) -> None:
    """A misspelt section, setting or service is refused with the nearest name (R159)."""
    (cli.folder / "proxy.toml").write_text("[dta]\nlisten = []\n[data]\nlisen = []\n")
    done = cli("check")
    assert done.code == 3
    assert ["did you mean data?" in done.err, "did you mean listen?" in done.err] == [True, True]
    (cli.folder / "proxy.toml").write_text('[sources.slak]\nkind = "static"\ntoken = { env = "HOME" }\n')
    done = cli("check")
    assert (done.code, "sources.slak" in done.err) == (3, True)


def test_check_looks_at_vault_key_and_certificate(cli: Inside) -> None:
    """A master key that others can read and a certificate that is none are found before a start."""
    cli("connect", "slack", "--access-token-stdin", stdin=b"t")
    (cli.data / "master.key").chmod(0o644)
    (cli.folder / "tls.pem").write_text("no certificate")
    (cli.folder / "proxy.toml").write_text(
        '[data.tls]\nlisten = ["127.0.0.1:8443"]\ncert_file = "tls.pem"\nkey_file = "tls.pem"\n'
    )
    done = cli("check")
    assert done.code == 3
    assert ["chmod 600" in done.err, "data.tls.cert_file" in done.err] == [True, True]
    (cli.data / "master.key").chmod(0o600)
    (cli.folder / "proxy.toml").unlink()
    assert cli("check").code == 0


def test_check_tells_the_redirect_address_of_sign_in(cli: Inside) -> None:
    """What has to be registered at the identity provider is told, and a secret that is not there is a fault."""
    path = cli.folder / "proxy.toml"
    path.write_text(
        '[control]\npublic_url = "https://proxy.example"\n'
        '[control.oidc]\nissuer = "https://id.example"\nclient_id = "c"\nclient_secret = { file = "secret" }\n'
    )
    done = cli("check")
    assert (done.code, "control.oidc.client_secret" in done.err) == (3, True)
    (cli.folder / "secret").write_text("s\u00e9cret\n")
    assert "must be printable ASCII" in cli("check").err
    (cli.folder / "secret").write_text("canary-secret\n")
    done = cli("check")
    assert (done.code, "https://proxy.example/oidc/callback" in done.out) == (0, True)
    assert "canary-secret" not in done.out + done.err


def test_version_in_both_forms(cli: Inside) -> None:
    """The version is one line, or one document."""
    assert cli("version").out == cli("--version").out == f"{__version__}\n"
    assert cli("--version").code == 0
    assert cli("version", "--json").document == {"version": __version__}


def test_a_row_through_a_pipe_is_one_line(cli: Inside) -> None:
    """``connector-proxy services | grep ID`` finds the row, however long its cells are."""
    done = cli("services")
    (row,) = (line for line in done.out.splitlines() if line.startswith("google_search_console "))
    assert "Google Search Console" in row
    assert len(done.out.splitlines()) == 33


def test_faults_are_counted_in_words(cli: Inside) -> None:
    """``check`` ends with ``ok`` or the number of faults."""
    (cli.folder / "proxy.toml").write_text("[data]\nlissten = []\n")
    done = cli("check")
    assert done.out.splitlines()[-1] == "1 fault"
    (cli.folder / "proxy.toml").write_text("[data]\nlissten = []\n[log]\nlevle = 1\n")
    assert cli("check").out.splitlines()[-1] == "2 faults"
