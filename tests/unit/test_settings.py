"""Settings: one declaration behind types, loading and reference; nothing unknown, all faults at once."""

import dataclasses
import ipaddress
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ConfigurationError
from proxy.forwarding.addresses import Dial
from proxy.secret import Secret
from proxy.settings import Listen, SecretSource, Settings, environment, load_settings
from proxy.settings.document import EXAMPLE, reference_toml, settings_table
from proxy.settings.spec import Entries, Named, Section, Spec, nodes

REFERENCE = Path(__file__).parents[2] / "config" / "proxy.toml"
HOME = {"HOME": "/home/nobody"}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy.toml in the current folder but a test's own."""
    monkeypatch.chdir(tmp_path)


def load(
    text: str = "", environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> Settings:
    """Settings from a file with that text in the current folder."""
    path = Path("test.toml")
    path.write_text(text, encoding="utf-8")
    return load_settings(path, HOME | dict(environ or {}), overrides)


def faults(
    text: str = "", environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> list[str]:
    """The faults of a configuration, as they are told."""
    with pytest.raises(ConfigurationError) as caught:
        load(text, environ, overrides)
    return [str(fault) for fault in caught.value.faults]


def declared(cls: type[Any] = Settings, at: str = "") -> Iterator[str]:
    """Dotted names of every setting, with the example's name where names are free."""
    for name, node in nodes(cls).items():
        if isinstance(node, Spec):
            yield at + name
        elif isinstance(node, Section):
            yield from declared(node.cls, f"{at}{name}.")
        elif isinstance(node, Named):
            yield from declared(node.cls, f"{at}{name}.{node.example}.")
        else:
            yield f"{at}{name}.{node.example}"


def uncommented() -> str:
    """The reference file with its examples switched on, but a command beside a static token."""
    text = re.sub(rf"(?m)^{re.escape(EXAMPLE)}", "", reference_toml())
    return re.sub(r"(?m)^command = .*$", "", text)


def test_the_reference_file_is_the_declaration():
    """A setting cannot be added, dropped or changed without ``config/proxy.toml``."""
    assert REFERENCE.read_text(encoding="utf-8") == reference_toml()


def test_the_reference_file_has_every_setting_and_gives_the_defaults():
    """Loading the file as shipped changes nothing; every setting is in it, as a value or an example."""
    assert load_settings(REFERENCE, HOME) == load_settings(None, HOME)
    everything = tomllib.loads(re.sub(rf"(?m)^{re.escape(EXAMPLE)}", "", reference_toml()))
    for dotted in declared():
        found: Any = everything
        for part in dotted.split("."):
            assert part in found, dotted
            found = found[part]


def test_the_examples_of_the_reference_file_load_too():
    """What the file suggests is valid."""
    settings = load(uncommented())
    assert settings.egress.connect_to == {"slack.com:443": Dial("127.0.0.1", 9443)}
    assert settings.sources["slack"].token == SecretSource(env="SLACK_TOKEN")
    assert settings.listeners == {"salesforce": Listen("127.0.0.1", 8101)}
    assert settings.services.directory == Path.cwd() / "services"


def test_the_table_for_readers_has_one_row_a_setting():
    """The README's table is made from the same declaration."""
    names = [line.split("`")[1] for line in settings_table().splitlines()[2:]]
    assert len(names) == len(set(names)) == len(list(declared()))
    assert "timeouts.first_byte" in names


@pytest.mark.parametrize(
    "cls", [node.cls for node in nodes(Settings).values() if isinstance(node, Section | Named)]
)
def test_every_section_says_what_it_is(cls: type[Any]):
    """The reference's headings come from the docstrings; durations and sizes have a unit."""
    assert re.match(r"``\[.*\]``: .", cls.__doc__ or "")
    for name, node in nodes(cls).items():
        assert not isinstance(node, Spec) or node.help.endswith("."), name
        if isinstance(node, Spec) and (name.endswith(("_s", "_bytes")) or cls.__name__ == "Timeouts"):
            assert node.unit in {"seconds", "bytes"}, name
        assert not isinstance(node, Entries)


def test_the_documented_defaults():
    """Value by value."""
    settings = load_settings(None, HOME)
    assert settings.data.listen == (Listen("127.0.0.1", 8080), Listen("::1", 8080))
    assert settings.control.origin() == "http://localhost:8081"
    assert settings.storage.data_dir == Path("/home/nobody/.local/share/connector-proxy")
    assert dataclasses.astuple(settings.limits) == (10_000, 65_536, 131_072, 256, 0, 65_536, 256)
    assert dataclasses.astuple(settings.timeouts) == (15, 60, 75, 10, 120, 300, 0)
    assert (settings.log.level, settings.log.format) == ("info", "auto")
    assert not settings.data.fallback


def test_settings_cannot_be_changed():
    """A value that exists stays as it was checked, tables included."""
    settings = load('[egress]\nconnect_to = { "a.test:443" = "127.0.0.1:1" }')
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.limits.headers = 1  # type: ignore[misc]  # must fail
    with pytest.raises(TypeError):
        settings.egress.connect_to["b.test:443"] = Dial("127.0.0.1", 1)  # type: ignore[index]  # must fail


def test_command_line_beats_environment_beats_file_beats_default():
    """Each layer replaces single values of the one below and leaves the others."""
    text = "[timeouts]\nhead = 1\nidle = 2\nconnect = 3"
    environ = {"CONNECTOR_PROXY_TIMEOUTS__IDLE": "20", "CONNECTOR_PROXY_TIMEOUTS__CONNECT": "30"}
    timeouts = load(text, environ, {"timeouts.connect": 300}).timeouts
    assert (timeouts.head, timeouts.idle, timeouts.connect, timeouts.keep_alive) == (1, 20, 300, 75)


def test_the_file_is_found_by_argument_then_variable_then_in_the_current_folder():
    """``--config``, CONNECTOR_PROXY_CONFIG, ``./proxy.toml``, in this order; none is fine, a named one must exist."""
    Path("proxy.toml").write_text("[limits]\nheaders = 11", encoding="utf-8")
    Path("named.toml").write_text("[limits]\nheaders = 12", encoding="utf-8")
    named = {"CONNECTOR_PROXY_CONFIG": "named.toml"}
    assert load_settings(None, HOME).limits.headers == 11
    assert load_settings(None, HOME | named).limits.headers == 12
    assert load("[limits]\nheaders = 13", named).limits.headers == 13
    with pytest.raises(ConfigurationError, match=r"missing\.toml: No such file"):
        load_settings(Path("missing.toml"), HOME)


def test_the_environment_takes_lists_and_tables_as_json_and_texts_as_they_are():
    """Two underscores between section and key, at any depth."""
    settings = load(
        environ={
            "CONNECTOR_PROXY_DATA__LISTEN": '["127.0.0.1:1", "unix:/run/p.sock"]',
            "CONNECTOR_PROXY_DATA__TLS__LISTEN": "127.0.0.1:2",
            "CONNECTOR_PROXY_CONTROL__LISTEN": "[::1]:3",
            "CONNECTOR_PROXY_DATA__FALLBACK": "true",
            "CONNECTOR_PROXY_EGRESS__CONNECT_TO": '{"SLACK.com:443": "127.0.0.1:9443"}',
            "CONNECTOR_PROXY_EGRESS__ALLOW_ADDRESSES": "10.0.0.0/8",
            "CONNECTOR_PROXY_LISTENERS__SLACK": "127.0.0.1:4",
            "CONNECTOR_PROXY_KEYS__CI": json.dumps({"hash": "sha256:" + "ab" * 32, "allow": ["slack"]}),
            "CONNECTOR_PROXY_BASE44__APP_ID": "123",
        }
    )
    assert settings.data.listen == (Listen("127.0.0.1", 1), Listen(path=Path("/run/p.sock")))
    assert settings.data.tls.listen == (Listen("127.0.0.1", 2),)
    assert settings.control.listen == (Listen("::1", 3),)
    assert settings.data.fallback
    assert settings.egress.connect_to == {"slack.com:443": Dial("127.0.0.1", 9443)}
    assert settings.egress.allow_addresses == (ipaddress.ip_network("10.0.0.0/8"),)
    assert settings.listeners == {"slack": Listen("127.0.0.1", 4)}
    assert settings.keys["ci"].hash == bytes.fromhex("ab" * 32)
    assert settings.base44.app_id == "123"


def test_short_forms_and_secrets_of_the_environment():
    """Short forms name the same settings; a secret in a variable stays there until it is needed."""
    environ = {
        "CONNECTOR_PROXY_DATA_DIR": "/srv/data",
        "CONNECTOR_PROXY_MASTER_KEY": "c2VjcmV0",
        "CONNECTOR_PROXY_DATABASE_URL": "postgresql://u:hunter2@db/x",
        "CONNECTOR_PROXY_TOKEN_ONE_DRIVE": "tok-canary",
        "CONNECTOR_PROXY_REGISTRATIONS__GOOGLE__CLIENT_ID": "id",
        "CONNECTOR_PROXY_REGISTRATIONS__GOOGLE__CLIENT_SECRET": "sec-canary",
        "CONNECTOR_PROXY_KEYS__CI__HASH": "cpk_wholekey",
        "CONNECTOR_PROXY_KEYS__CI__ALLOW": '["slack"]',
    }
    settings = load(environ=environ)
    assert settings.storage.data_dir == Path("/srv/data")
    assert settings.sources["one_drive"].kind == "static"
    source = settings.sources["one_drive"].token
    assert source is not None
    assert source.read(environ, place="x") == Secret("tok-canary")
    assert settings.keys["ci"].hash == SecretSource(env="CONNECTOR_PROXY_KEYS__CI__HASH")
    shown = repr(settings)
    assert not any(word in shown for word in ("canary", "hunter2", "c2VjcmV0", "cpk_wholekey"))


def test_a_database_url_in_the_file_is_a_secret():
    """R143: a password in the file does not show in a repr."""
    settings = load('[storage]\ndatabase_url = "postgresql://u:hunter2@db/x"')
    assert settings.storage.database_url == Secret("postgresql://u:hunter2@db/x")
    assert "hunter2" not in repr(settings)


def test_relative_paths_count_from_the_file_and_home_is_expanded(tmp_path: Path):
    """A configuration folder can be moved as a whole."""
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "proxy.toml"
    path.write_text(
        '[services]\ndirectory = "mine"\n[storage]\nmaster_key = { file = "key" }', encoding="utf-8"
    )
    settings = load_settings(path, HOME)
    assert settings.services.directory == folder / "mine"
    assert settings.storage.master_key == SecretSource(file=folder / "key")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_DATA_HOME": "/xdg", "HOME": "/h"}, "/xdg/connector-proxy"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/connector-proxy"),
        ({"HOME": "/h"}, "/h/.local/share/connector-proxy"),
    ],
)
def test_the_data_folder_is_in_the_xdg_data_home(environ: Mapping[str, str], expected: str):
    """XDG Base Directory: a relative XDG_DATA_HOME is ignored."""
    assert load_settings(None, environ).storage.data_dir == Path(expected)


def test_all_faults_are_told_at_once_with_place_and_nearest_name():
    """R159, R160: file and dotted key, variable, or command line; what is meant; nothing of it is applied."""
    told = faults(
        """
[dta]
x = 1
[data]
listne = []
drain_s = "long"
[limits]
headers = true
[egress]
connect_to = { "slack.com" = "127.0.0.1:1" }
allow_addresses = ["10.0.0.1/8"]
[keys.ci]
hash = "md5:00"
allow = ["slack"]
[registrations]
google = 1
""",
        {"CONNECTOR_PROXY_LOG__LEVL": "info", "CONNECTOR_PROXY_LOG__FORMAT": "xml"},
        {"timeouts.haed": 1, "timeouts.idle": -1},
    )
    expected = [
        "test.toml: dta: unknown setting; did you mean data?",
        "test.toml: data.listne: unknown setting; did you mean listen?",
        "test.toml: data.drain_s: must be a number of seconds, 0 or more",
        "test.toml: limits.headers: must be a whole number, 8 or more",
        "test.toml: egress.connect_to: 'slack.com' lacks a port",
        "test.toml: egress.allow_addresses: '10.0.0.1/8' is not an address or network such as 10.1.0.0/16",
        'test.toml: keys.ci.hash: must be "sha256:" and 64 hex digits, or { env = "NAME" } that holds the whole key',
        "test.toml: registrations.google: must be a table",
        "CONNECTOR_PROXY_LOG__LEVL: unknown setting; did you mean CONNECTOR_PROXY_LOG__LEVEL?",
        "CONNECTOR_PROXY_LOG__FORMAT: must be one of auto, console, json",
        "command line: timeouts.haed: unknown setting; did you mean head?",
        "command line: timeouts.idle: must be a number of seconds, 0 or more",
    ]
    assert sorted(told) == sorted(expected)


OIDC = '[control.oidc]\nissuer = "https://id.example/realm/"\n'
CONTRADICTIONS = [
    (
        '[data.tls]\ncert_file = "c.pem"',
        "test.toml: data.tls.cert_file: cert_file and key_file belong together",
    ),
    ('[data.tls]\nkey_file = "k.pem"', "data.tls.cert_file: cert_file and key_file belong together"),
    ('[keys.ci]\nallow = ["slack"]', "test.toml: keys.ci: a declared key needs hash"),
    (
        '[keys.ci]\nhash = { env = "K" }',
        "test.toml: keys.ci: a declared key needs at least one permit in allow",
    ),
    ("[registrations.google]", "test.toml: registrations.google: a registration needs client_id"),
    (
        '[sources.slack]\nkind = "static"',
        'test.toml: sources.slack: token goes with kind = "static", and the other way round',
    ),
    (
        '[sources.slack]\ncommand = ["x"]',
        'test.toml: sources.slack: command goes with kind = "command", and the other way round',
    ),
    (
        '[control]\nlisten = "127.0.0.1:8080"',
        "test.toml: control.listen: 127.0.0.1:8080 is also an address of data.listen",
    ),
    (
        '[listeners]\nslack = "127.0.0.1:9"\ngithub = "127.0.0.1:9"',
        "test.toml: listeners.github: 127.0.0.1:9 is also an address of listeners.slack",
    ),
    (
        "[control]\npassword_sign_in = false",
        "test.toml: control.password_sign_in: nobody could sign in: false takes issuer and client_id of [control.oidc]",
    ),
    (
        '[control.oidc]\nissuer = "https://id.example"',
        "test.toml: control.oidc.issuer: issuer and client_id belong together",
    ),
    ('[control.oidc]\nclient_id = "c"', "control.oidc.issuer: issuer and client_id belong together"),
    (
        '[control.oidc]\nissuer = "http://id.example"\nclient_id = "c"',
        "test.toml: control.oidc.issuer: must be https://host[/path] (http only on this machine)",
    ),
    (
        '[control.oidc]\nissuer = "https://id.example/?a=1"\nclient_id = "c"',
        "test.toml: control.oidc.issuer: must be https://host[/path] (http only on this machine)",
    ),
    (f'{OIDC}client_id = "ü"', "test.toml: control.oidc.client_id: must be ASCII"),
    (
        f'{OIDC}client_id = "c"\n[control]\npublic_url = "http://proxy.example"',
        (
            "test.toml: control.public_url: providers redirect to https only (or to this machine), and the address "
            "would be http://proxy.example/oidc/callback"
        ),
    ),
    (
        f'{OIDC}client_id = "c"\nscopes = ["email"]',
        "test.toml: control.oidc.scopes: openid has to be among them",
    ),
    (
        f'{OIDC}client_id = "c"\nemail_claim = "upn"',
        (
            "test.toml: control.oidc.email_claim: email_verified speaks of the claim email only: another one takes "
            "require_verified_email = false"
        ),
    ),
    (
        f'{OIDC}client_id = "c"\nprovision = "viewer"',
        (
            "test.toml: control.oidc.provision: takes allowed_domains: else everybody with an account at the provider "
            "would become a user"
        ),
    ),
]


@pytest.mark.parametrize(("text", "told"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_told(text: str, told: str):
    """What no single setting can tell fails at the start too, with the place."""
    assert faults(text) == [told]


WRONG = [
    ("data", 1),
    ("egress.connect_to", ["a.test:443"]),
    ("sources.slack", "static"),
    ("storage.database_url", 5),
    ("services.directory", 5),
    ("data.tls.cert_file", "a\0b"),
    ("data.listen", ["127.0.0.1"]),
    ("data.listen", ["127.0.0.1:65536"]),
    ("data.listen", ["::1:8080"]),
    ("data.listen", ["127.1:8080"]),
    ("data.listen", [""]),
    ("data.listen", 8080),
    ("data.public_url", "https://proxy.example.com/path"),
    ("data.public_url", "ftp://proxy.example.com"),
    ("data.public_url", "https://user@proxy.example.com"),
    ("data.public_url", "proxy.example.com"),
    ("data.host_suffixes", ["a b"]),
    ("data.fallback", "yes"),
    ("data.fallback", 1),
    ("limits.connections", 0),
    ("limits.request_line", 10),
    ("limits.headers", 20.5),
    ("timeouts.head", float("inf")),
    ("timeouts.head", float("nan")),
    ("timeouts.head", True),
    ("egress.connect_to", {"slack.com:443": "localhost:9443"}),
    ("egress.connect_to", {"slack.com:443": "127.0.0.1"}),
    ("egress.ca_hosts", ["*"]),
    ("egress.ca_hosts", ["a.*.com"]),
    ("egress.allow_addresses", ["localhost"]),
    ("storage.master_key", "c2VjcmV0-canary"),
    ("storage.master_key", {"env": "A", "file": "b"}),
    ("storage.master_key", {"env": "A B"}),
    ("storage.master_key", {"command": "cat x"}),
    ("storage.master_key", {"command": []}),
    ("storage.master_key", {"vault": "x"}),
    ("services.enabled", ["slack\n"]),
    ("services.extra_hosts", {"slack": "gov"}),
    ("services.directory", ""),
    ("log.level", "INFO"),
]


@pytest.mark.parametrize(("dotted", "value"), WRONG)
def test_a_wrong_value_is_refused_and_not_echoed_when_it_may_be_secret(dotted: str, value: object):
    """R160: one fault that names the setting; a key written where a source belongs is not repeated (R143)."""
    told = faults(overrides={dotted: value})
    assert [each.partition(": ")[2].partition(": ")[0] for each in told] == [dotted]
    assert "canary" not in told[0]


def test_values_that_are_typed_already_are_taken_as_they_are(tmp_path: Path):
    """The command line may hand over paths, addresses and secrets as such."""
    given = {
        "storage.data_dir": tmp_path,
        "data.listen": [Listen("127.0.0.1", 1)],
        "storage.master_key": SecretSource(env="K"),
        "storage.database_url": Secret("postgresql:///x"),
    }
    settings = load(overrides=given)
    assert settings.storage.data_dir == tmp_path
    assert settings.data.listen == (Listen("127.0.0.1", 1),)
    assert settings.storage.master_key == SecretSource(env="K")
    assert settings.storage.database_url == Secret("postgresql:///x")


def test_a_file_that_is_not_toml_is_told_with_its_line():
    """The fault says where, and the rest of the program does not start on half a file."""
    (told,) = faults("[data\n")
    assert told.startswith("test.toml: not TOML: ")
    assert "line 1" in told


def test_strange_variables_of_others_are_left_alone_but_misspellings_are_not():
    """Kubernetes sets variables for a service of our name; a near miss of ours is a fault all the same."""
    others = {
        "CONNECTOR_PROXY_PORT": "tcp://10.0.0.1:8080",
        "CONNECTOR_PROXY_SERVICE_HOST": "10.0.0.1",
        "CONNECTOR_PROXY_PORT_8080_TCP_ADDR": "10.0.0.1",
        "CONNECTOR_PROXY_KEY": "cpk_x",
    }
    assert load(environ=others) == load()
    assert faults(environ={"CONNECTOR_PROXY_MASTERKEY": "x"}) == [
        "CONNECTOR_PROXY_MASTERKEY: unknown variable; did you mean CONNECTOR_PROXY_MASTER_KEY?"
    ]
    assert faults(environ={"CONNECTOR_PROXY_KEYS__CI": "not json"}) == [
        "CONNECTOR_PROXY_KEYS__CI: must be a table"
    ]
    assert faults(environ={"CONNECTOR_PROXY_DATA__LISTEN__X": "1"}) == [
        "CONNECTOR_PROXY_DATA__LISTEN__X: data.listen is one value; a table is given whole, as JSON"
    ]


def test_host_and_port_of_the_command_line_change_the_addresses():
    """``--host`` and ``--port`` keep what is not named; port 0 and several families are fine, sockets stay."""
    text = '[data]\nlisten = ["127.0.0.1:1", "[::1]:1", "unix:/run/p.sock"]'
    socket = Listen(path=Path("/run/p.sock"))
    overrides = {"data.port": 0, "data.tls.port": 8443, "control.port": 5}
    settings = load(text, overrides=overrides)
    assert settings.data.listen == (Listen("127.0.0.1", 0), Listen("::1", 0), socket)
    assert settings.data.tls.listen == (Listen("127.0.0.1", 8443), Listen("::1", 8443))
    assert settings.control.listen == (Listen("127.0.0.1", 5), Listen("::1", 5))
    one = load('[data]\nlisten = ["127.0.0.1:1", "[::1]:1"]', overrides={"data.host": "0.0.0.0"})
    assert one.data.listen == (Listen("0.0.0.0", 1),)
    assert faults(overrides={"data.host": "127.1", "data.port": 70000}) == [
        "command line: data.host: '127.1' is not a host",
        "command line: data.port: must be a port, 0 to 65535",
    ]


def test_a_secret_source_is_exactly_one():
    """Whoever builds one in code is held to the same rule."""
    for wrong in ({}, {"env": "A", "file": Path("b")}):
        with pytest.raises(ValueError, match="exactly one"):
            SecretSource(**wrong)


def test_secrets_are_read_from_variable_file_and_command(tmp_path: Path):
    """A line end behind a secret is cut off, inner ones stay; no shell is involved."""
    (tmp_path / "s").write_text("one\ntwo\n", encoding="utf-8")
    sources = [
        (SecretSource(env="S"), "one"),
        (SecretSource(file=tmp_path / "s"), "one\ntwo"),
        (SecretSource(command=(sys.executable, "-c", "print('$HOME')")), "$HOME"),
    ]
    for source, text in sources:
        assert source.read({"S": "one"}, place="x") == Secret(text)


@pytest.mark.parametrize(
    "source",
    [
        SecretSource(env="NOT_SET"),
        SecretSource(file=Path("/nowhere/at/all")),
        SecretSource(file=Path("binary")),
        SecretSource(command=("/nowhere/at/all",)),
        SecretSource(command=(sys.executable, "-c", "")),
        SecretSource(command=(sys.executable, "-c", "import sys; print('canary'); sys.exit('canary')")),
    ],
    ids=str,
)
def test_a_secret_that_cannot_be_read_is_a_fault_without_its_output(source: SecretSource):
    """R143: the fault names setting and source; what a command printed is not in it."""
    Path("binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError) as caught:
        source.read({}, place="storage.master_key")
    assert str(caught.value).startswith("storage.master_key: ")
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_environment_is_the_processs(monkeypatch: pytest.MonkeyPatch):
    """The one place that reads os.environ gives it out."""
    monkeypatch.setenv("CONNECTOR_PROXY_TEST", "1")
    assert environment()["CONNECTOR_PROXY_TEST"] == "1"
