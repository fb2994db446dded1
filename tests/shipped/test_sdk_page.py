"""docs/sdk-tests.md: the table that the last run of all SDKs wrote."""

import json
import re
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FULL = ROOT / "tests" / "sdk_full"
ROW = re.compile(r"\| (\S+) \((python|node)\) \| (\S+) \| (\w+) \| (.+) \| (\d+) of (\d+) \| (\d+) \| .*\|")


def rows() -> list[tuple[str, ...]]:
    """Package, language, version, service, base URLs, passed, steps, calls."""
    text = (ROOT / "docs" / "sdk-tests.md").read_text(encoding="utf-8")
    return [found.groups() for found in map(ROW.fullmatch, text.splitlines()) if found]


def test_every_scenario_is_in_the_table() -> None:
    """The table is of a run of all that are there, and all of it passed: at least 25 SDKs, 12 of them for Node."""
    found = sorted((language, service) for _, language, _, service, *_ in rows())
    scenarios = [*(FULL / "python").glob("*.py"), *(FULL / "node").glob("*.mjs")]
    assert found == sorted((path.parent.name, path.name.partition("-")[0]) for path in scenarios)
    assert all(passed == steps for *_, passed, steps, _ in rows())
    assert len({row[:2] for row in rows()}) >= 25
    assert len({row[0] for row in rows() if row[1] == "node"}) >= 12


def test_its_versions_are_the_locked_ones() -> None:
    """What the table says was run is what `make sdk` installs."""
    pins = re.findall(r"^([a-z0-9.\-]+)==([^\s;]+)", (FULL / "requirements.lock").read_text(), re.MULTILINE)
    packages = json.loads((FULL / "package-lock.json").read_text())["packages"]
    locked = {
        "python": {canonicalize_name(name): version for name, version in pins},
        "node": {name.removeprefix("node_modules/"): one.get("version") for name, one in packages.items()},
    }
    for package, language, version, *_ in rows():
        name = canonicalize_name(package) if language == "python" else package
        assert locked[language][name] == version
