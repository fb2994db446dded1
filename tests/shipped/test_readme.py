"""README.md and the pages beside it say what the program does: tables, commands, files, permits, addresses, links."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
import typer
import yaml
from support.commands import ROOT, command, environment
from support.documents import MADE, PAGES, README, Block, accepted_keys, blocks, part

from proxy.catalog.loader import load_catalog, load_file
from proxy.cli.root import tree
from proxy.forwarding.permits import parse_permit
from proxy.forwarding.routing import match, parse_target, resolve_host
from proxy.keys import is_well_formed
from proxy.metrics import Metrics
from proxy.problems import CODES
from proxy.settings import load_settings

COMPOSE = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text(encoding="utf-8"))
PERMITS = ROOT / "docs" / "permits.md"
SERVICES = ROOT / "docs" / "services.md"
OPERATIONS = ROOT / "docs" / "operations.md"


def named(found: Iterable[Block]) -> list[object]:
    """Blocks as parameters with readable ids."""
    return [pytest.param(one, id=f"{one.page}:{one.line}") for one in found]


def all_blocks(*languages: str) -> list[object]:
    return named(one for page in PAGES for one in blocks(page, *languages))


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next one of its rank."""
    text = page.read_text(encoding="utf-8")
    rank = heading.partition(" ")[0]
    found = re.search(
        rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(rank)}}} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"{page.name} has no {heading!r}"
    return found.group(1)


def rows(text: str) -> list[tuple[str, ...]]:
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line.strip("| ").split(" | ")) for line in lines[2:]]


def quoted(cell: str) -> str:
    """What stands between the first two backticks."""
    found = re.match(r"`([^`]+)`", cell)
    assert found is not None, cell
    return found.group(1)


# --- tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_made_tables_are_what_the_program_says(name: str) -> None:
    """The tables of settings, errors and services are those of the program (``python -m support.documents``)."""
    assert part(README.read_text(encoding="utf-8"), name).splitlines() == MADE[name]().splitlines()


def test_the_tables_leave_nothing_out() -> None:
    """Every error code and all 32 services have a row."""
    text = README.read_text(encoding="utf-8")
    assert {quoted(row[1]) for row in rows(part(text, "errors"))} == set(CODES)
    assert {quoted(row[0]) for row in rows(part(text, "services"))} == set(load_catalog().services)
    assert len(rows(part(text, "services"))) == 32


def test_the_settings_table_is_what_the_command_prints() -> None:
    """``python -m proxy.settings.document --table`` prints the README's table."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy.settings.document", "--table"],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env=environment(ROOT),
        timeout=30,
    )
    assert done.stdout.decode() == part(README.read_text(encoding="utf-8"), "settings")


def test_no_service_is_said_to_be_tried_while_none_is() -> None:
    """The README says that no service was tried live exactly while no file says so."""
    live = [one.type_id for one in load_catalog().services.values() if one.verified == "live"]
    assert ("None has been tried against the live service" in README.read_text(encoding="utf-8")) == (
        not live
    )


def test_metrics_are_those_that_are_exposed() -> None:
    """The page on operations lists the metrics of the data path, each by its exposed name."""
    metrics = Metrics(["slack"], ["bad_request"])
    metrics.service("slack").record("GET", 200, bytes_in=0, bytes_out=0, duration=0.1)
    exposed = set(re.findall(r"^# TYPE (\w+) ", metrics.exposition().decode(), re.MULTILINE))
    told = {
        quoted(row[0]) for row in rows(OPERATIONS.read_text(encoding="utf-8")) if "connector_proxy" in row[0]
    }
    own = {name for name in exposed if not name.startswith("connector_proxy_process_")}
    assert own <= told
    registered = {
        name
        for path in (ROOT / "proxy").rglob("*.py")
        for name in re.findall(r"metrics\.(?:gauge|counter)\(\s*\"(\w+)\"", path.read_text(encoding="utf-8"))
    }
    for name in told - own - {"connector_proxy_process_*"}:
        assert name.removeprefix("connector_proxy_").removesuffix("_total") in registered, name


# --- commands -------------------------------------------------------------------------------------------


def command_lines() -> Iterator[object]:
    """Every command line of ours: in blocks, behind pipes, in ``$(...)``, and quoted in sentences."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(page, "sh"):
            for number, line in enumerate(block.text.splitlines(), block.line):
                for found in re.finditer(r"(?:^|[|(] ?)connector-proxy ([^|)#<]*)", line):
                    yield pytest.param(found.group(1), id=f"{page.name}:{number}")
        for found in re.finditer(r"(?<!`)`connector-proxy ([^`<]+)[^`]*`", text):
            number = text.count("\n", 0, found.start()) + 1
            yield pytest.param(found.group(1), id=f"{page.name}:{number}")


@pytest.mark.parametrize("line", list(command_lines()))
def test_commands_parse(line: str) -> None:
    """Every command and option that a page shows is one that the program takes."""
    words = shlex.split(line)
    at = typer.main.get_command(tree())
    while words and (below := getattr(at, "commands", {}).get(words[0])) is not None:
        at, words = below, words[1:]
    assert not getattr(at, "commands", None) or not words or words[0].startswith("-"), (
        f"no command {words[0]}"
    )
    if words or getattr(at, "invoke_without_command", False):
        at.make_context(at.name or "", words)


def test_command_lines_are_found() -> None:
    """The reader of command lines sees pipes, substitutions and sentences."""
    found = [one.values[0].strip() for one in command_lines()]  # type: ignore[attr-defined]  # pytest.param
    assert "connect github --access-token-stdin" in found
    assert "keys create laptop --allow github:GET --expires 30d" in found
    assert "services" in found
    assert len(found) > 40


@pytest.mark.parametrize("block", all_blocks("sh"))
def test_shell_blocks_parse(block: Block) -> None:
    """Shell lines are such that a shell reads them; make targets in them exist."""
    subprocess.run(["sh", "-n"], input=block.text.encode(), check=True, timeout=10)
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE):
        assert target in targets


# --- permits and addresses ------------------------------------------------------------------------------


def shown_permits() -> set[str]:
    found = {quoted(row[0]) for row in rows(section(README, "## Keys and permits"))}
    found |= {quoted(row[0]) for row in rows(section(PERMITS, "## Grammar"))}
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.text.splitlines():
                words = shlex.split(line, comments=True)
                found |= {words[n + 1].rstrip(")") for n, word in enumerate(words) if word == "--allow"}
        for block in blocks(page, "toml"):
            keys = tomllib.loads(block.text).get("keys", {})
            found |= {permit for key in keys.values() for permit in key["allow"]}
    return found


@pytest.mark.parametrize("text", sorted(shown_permits()))
def test_permits_parse(text: str) -> None:
    """Every permit on a page is one, and is about a service that there is."""
    permit = parse_permit(text)
    assert permit.service in {"*", *load_catalog().services}


def test_addresses_lead_where_the_readme_says() -> None:
    """Each row of the table of addresses, through the program's own routing."""
    table = rows(section(README, "## Addresses"))
    assert len(table) == 6
    for address, goal in table:
        method, raw = quoted(address).split(" ")
        target = parse_target(raw.encode())
        service = load_catalog().services[target.service]
        route = match(target, method.encode(), service)
        origin = resolve_host(route, {}).origin.build({}, service=service.type_id)
        assert f"{origin}{route.path.decode()}" == quoted(goal)
        assert (target.connection is not None) == ("named" in goal)


def test_the_shown_keys_look_like_keys() -> None:
    """The keys on the pages have the form and the checksum of real ones, and none that is cut off."""
    for page in PAGES:
        for key in re.findall(r"cpk_[0-9A-Za-z_]{8,}", page.read_text(encoding="utf-8")):
            assert is_well_formed(key.encode()), key


# --- files and snippets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("block", all_blocks("toml"))
def test_toml_blocks_load(block: Block, tmp_path: Path) -> None:
    """A TOML block is a service file that loads, or settings that load."""
    path = tmp_path / "acme.toml"
    path.write_text(block.text, encoding="utf-8")
    if "hosts" in tomllib.loads(block.text):
        load_file(path, user=True)
    else:
        load_settings(path, {"HOME": str(tmp_path)})


def readme_service() -> str:
    (text,) = (block.text for block in blocks(README, "toml") if "[[hosts]]" in block.text)
    return text


def test_a_service_of_ones_own_takes_ten_lines(tmp_path: Path) -> None:
    """The README's file is no longer than ten lines, reaches the account's subdomain, and no other domain."""
    assert len(readme_service().splitlines()) <= 10
    path = tmp_path / "acme.toml"
    path.write_text(readme_service(), encoding="utf-8")
    service = load_file(path, user=True)
    route = match(parse_target(b"/acme/v1/things"), b"GET", service)
    origin = resolve_host(route, {"subdomain": "acme"}).origin.build({"subdomain": "acme"}, service="acme")
    assert f"{origin}{route.path.decode()}" == "https://acme.example.com/v1/things"


@pytest.mark.parametrize("block", all_blocks("json"))
def test_json_blocks_are_json(block: Block) -> None:
    """JSON on the pages is JSON; an event of the log on each line of its own."""
    document = json.loads(block.text)
    assert isinstance(document, dict)


def test_the_error_body_has_the_members_that_answers_have(tmp_path: Path) -> None:
    """The example of an error is one of the program's, member by member."""
    (shown,) = (json.loads(block.text) for block in blocks(README, "json") if "urn:" in block.text)
    from proxy.errors import NotPermitted  # noqa: PLC0415  # beside its only use
    from proxy.problems import problem  # noqa: PLC0415  # beside its only use

    made = problem(NotPermitted(shown["detail"]), request_id=shown["instance"], plane="data")
    assert json.loads(made.body) == shown


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_yaml_blocks_are_in_the_compose_file(block: Block) -> None:
    """The README's part of the compose file is in it, word for word."""
    shown = yaml.safe_load(block.text)
    assert shown["environment"] == COMPOSE["services"]["connector-proxy"]["environment"]


@pytest.mark.parametrize("block", all_blocks("python"))
def test_python_blocks_compile(block: Block) -> None:
    """Python on the pages compiles, and imports from us what is there."""
    tree = ast.parse(block.text)
    compile(tree, block.page, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("proxy"):
            exec(compile(ast.Module([node], []), block.page, "exec"), {})  # noqa: S102  # an import of ours


@pytest.mark.parametrize("block", all_blocks("js"))
def test_javascript_blocks_parse(block: Block, tmp_path: Path) -> None:
    """JavaScript on the pages is read by Node as a module."""
    path = tmp_path / "snippet.mjs"
    path.write_text(block.text, encoding="utf-8")
    node = Path(sys.executable).with_name("node")
    done = subprocess.run([node, "--check", path], capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr.decode()


def test_the_connectors_example_runs(tmp_path: Path) -> None:
    """The README's Python program prints a connected account's token and config, with and without an event loop."""
    (program,) = (block.text for block in blocks(README, "python") if "SyncConnectors" in block.text)
    (settings,) = (block.text for block in blocks(README, "toml") if "directory" in block.text)
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "acme.toml").write_text(readme_service(), encoding="utf-8")
    (tmp_path / "proxy.toml").write_text(settings, encoding="utf-8")
    (line,) = (
        line for line in section(README, "## Services of your own").splitlines() if "connect acme" in line
    )
    words = shlex.split(line.partition("<")[0])[1:]
    assert command(*words, folder=tmp_path, stdin=b"made-up-token").code == 0
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environment(tmp_path),
        timeout=30,
    )
    assert done.stderr.decode() == ""
    assert done.stdout.decode() == "made-up-token {'subdomain': 'acme'}\n{'subdomain': 'acme'}\n"


# --- the schema of service files ------------------------------------------------------------------------


def test_every_key_of_a_service_file_is_explained() -> None:
    """docs/services.md explains exactly the keys that the loader takes, table by table."""
    text = SERVICES.read_text(encoding="utf-8")
    told: dict[str, list[str]] = {}
    for heading, body in re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        names = re.findall(r"`\[+([A-Za-z_.]+)\]+`", heading) or [""]
        for name in names:
            told[name] = [quoted(row[0]) for row in rows(body)]
    known = accepted_keys()
    assert set(told) == set(known)
    for table, keys in known.items():
        assert sorted(told[table]) == sorted(keys), table or "top of the file"


# --- links and the picture ------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Anchors that a page's headings get."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_lead_somewhere() -> None:
    """Each link within the repository leads to a file that is there, and to a heading that it has."""
    count = 0
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for goal in re.findall(r"\]\(([^)\s]+)\)", text):
            url = urlsplit(goal)
            if url.scheme:
                continue
            count += 1
            target = page if not url.path else (page.parent / url.path).resolve()
            assert target.exists(), f"{page.name}: {goal}"
            if url.fragment:
                assert url.fragment in anchors(target), f"{page.name}: {goal}"
    assert count > 30


def test_every_page_is_reached_from_the_readme() -> None:
    """Nobody has to guess that a page exists."""
    text = README.read_text(encoding="utf-8")
    for page in (ROOT / "docs").iterdir():
        assert f"docs/{page.name}" in text


def test_the_picture_stands_alone() -> None:
    """The drawing is well-formed, says in words what it shows, and fetches nothing."""
    text = (ROOT / "docs" / "data-path.svg").read_text(encoding="utf-8")
    top = ET.fromstring(text)  # noqa: S314  # our own file
    assert {"title", "desc"} <= {child.tag.rpartition("}")[2] for child in top}
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert re.findall(r"href|@import|<script|<image|<foreignObject", text) == []
    assert re.findall(r"url\(([^)]*)\)", text) == ["#tip"] * text.count("url(")
