"""docs/sdk-tests.md: the table that the last run of all SDKs wrote."""

import json
import re

from packaging.utils import canonicalize_name
from support.documents import ROOT, sdk_runs

FULL = ROOT / "tests" / "sdk_full"


def test_every_scenario_is_in_the_table() -> None:
    """The table is of a run of all that are there, and all of it passed: at least 25 SDKs, 12 of them for Node."""
    runs = sdk_runs()
    scenarios = [*(FULL / "python").glob("*.py"), *(FULL / "node").glob("*.mjs")]
    assert sorted((one.language, one.service) for one in runs) == sorted(
        (path.parent.name, path.name.partition("-")[0]) for path in scenarios
    )
    assert all(one.passed == one.steps for one in runs)
    assert len({(one.language, one.package) for one in runs}) >= 25
    assert len({one.package for one in runs if one.language == "node"}) >= 12


def test_its_versions_are_the_locked_ones() -> None:
    """What the table says was run is what `make sdk` installs."""
    pins = re.findall(r"^([a-z0-9.\-]+)==([^\s;]+)", (FULL / "requirements.lock").read_text(), re.MULTILINE)
    packages = json.loads((FULL / "package-lock.json").read_text())["packages"]
    locked = {
        "python": {canonicalize_name(name): version for name, version in pins},
        "node": {name.removeprefix("node_modules/"): one.get("version") for name, one in packages.items()},
    }
    for one in sdk_runs():
        name = canonicalize_name(one.package) if one.language == "python" else one.package
        assert locked[one.language][name] == one.version
