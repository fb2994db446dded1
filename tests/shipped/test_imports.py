"""What import contracts cannot say: who reads the environment. Who may import whom stands in pyproject.toml."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "proxy"
READERS = {"environ", "environb", "getenv", "getenvb"}


def environment_reads(source: str) -> list[int]:
    """Lines on which a module gets hold of the process environment, by ``os`` or by an option of the command line."""

    def lines() -> Iterator[int]:
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Attribute(attr=name, value=ast.Name(id="os" | "posix")) if name in READERS:
                    yield node.lineno
                case ast.ImportFrom(module="os" | "posix", names=names) if READERS & {
                    alias.name for alias in names
                }:
                    yield node.lineno
                case ast.keyword(arg="envvar" | "auto_envvar_prefix"):
                    yield node.value.lineno
                case _:
                    pass

    return sorted(lines())


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "import os\nprint(os.getenv('A'))",
        "import os\nenvironment = os.environ",
        "from os import environ",
        "from os import path, getenv as g",
        "import os\nos.environb[b'A']",
        "typer.Option(envvar='A')",
    ],
)
def test_every_way_to_read_the_environment_is_seen(source: str) -> None:
    """The check below finds each way in which Python code reads the environment."""
    assert environment_reads(source)


def test_only_settings_read_the_environment() -> None:
    """All that the environment can change about the program is in `proxy.settings`, so its reference is complete."""
    sources = [
        path
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in {"settings.py", "settings"}
    ]
    assert len(sources) > 20
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources
        for line in environment_reads(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "module", ["proxy.errors", "proxy.catalog", "proxy.forwarding.routing", "proxy.forwarding.permits"]
)
def test_what_decides_loads_no_machinery(module: str) -> None:
    """Deciding modules can be imported without an event loop, a server or a database being loaded."""
    # With an environment of its own: coverage, which follows child processes by theirs, would load some of these.
    program = f"import sys, {module}; print(*(sys.modules.keys() & {{'asyncio', 'aiohttp', 'structlog', 'sqlite3', 'ssl'}}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == []
