"""The lock files: complete, hashed, agreeing with each other and with pyproject.toml, and free of known holes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = (
    "requirements.lock",
    "requirements-build.lock",
    "requirements-otel.lock",
    "requirements-dev.lock",
    "tests/benchmarks/requirements.lock",
    "tests/sdk/requirements.lock",
    "tests/sdk_full/requirements.lock",
)
ADVISORIES = tomllib.loads((Path(__file__).parent / "advisories.toml").read_text(encoding="utf-8"))


def logical_lines(name: str) -> list[str]:
    """The entries of a lock file, continuation lines joined."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pins(name: str) -> dict[str, Version]:
    """Name to version of a lock file."""
    found: dict[str, Version] = {}
    for line in logical_lines(name):
        requirement = Requirement(line.split(" --hash=")[0])
        (specifier,) = requirement.specifier
        found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def group(name: str) -> list[Requirement]:
    """The requirements of a dependency group, the included groups among them."""
    found: list[Requirement] = []
    for entry in PROJECT["dependency-groups"][name]:
        found += group(entry["include-group"]) if isinstance(entry, dict) else [Requirement(entry)]
    return found


WANTED = {
    "requirements.lock": [Requirement(text) for text in PROJECT["project"]["dependencies"]],
    "requirements-build.lock": group("build"),
    "requirements-otel.lock": [
        Requirement(text)
        for text in (
            *PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"]["otel"],
        )
    ],
    "requirements-dev.lock": [
        *map(Requirement, PROJECT["project"]["dependencies"]),
        *(
            Requirement(text)
            for extra in PROJECT["project"]["optional-dependencies"].values()
            for text in extra
        ),
        *group("dev"),
    ],
    "tests/benchmarks/requirements.lock": group("bench"),
    "tests/sdk/requirements.lock": group("sdk"),
    "tests/sdk_full/requirements.lock": group("sdk-full"),
}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_pinned_and_hashed(lock: str) -> None:
    """What is installed is exactly what was looked at: one version, by SHA-256 (R161)."""
    lines = logical_lines(lock)
    assert lines
    for line in lines:
        entry = r"[a-z0-9.\-]+(\[[a-z,]+\])?==[^\s;]+(\s*;[^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*"
        assert re.fullmatch(entry, line), line[:120]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place(lock: str) -> None:
    """A lock works on any machine and with any index: it holds no address, folder or index option."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*(-i|-f|--index|--extra|--find|--trusted)|(^|\s)/\w|@", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_satisfies_pyproject(lock: str) -> None:
    """A dependency that was added or raised has been locked (`make lock`)."""
    locked = pins(lock)
    environment = default_environment()
    for requirement in WANTED[lock]:
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), str(
                requirement
            )


WITH_SCRIPTS = {"node_modules/core-js", "node_modules/core-js-pure", "node_modules/protobufjs"}
"""They ask for donations or check versions when installed by npm; --ignore-scripts of the Makefile keeps that from running."""


@pytest.mark.parametrize("folder", ["tests/sdk", "tests/sdk_full", "tests/base44"])
def test_the_lock_of_node_packages(folder: str) -> None:
    """Node packages too are pinned by SHA-512 and come from whatever registry the machine has (R161)."""
    manifest = json.loads((ROOT / folder / "package.json").read_text(encoding="utf-8"))
    packages = json.loads((ROOT / folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert packages.pop("")["dependencies"] == manifest["dependencies"]
    assert {f"node_modules/{name}" for name in manifest["dependencies"]} <= packages.keys()
    for name, package in packages.items():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"]), name
        assert "resolved" not in package, name
        assert "hasInstallScript" not in package or name in WITH_SCRIPTS, name


@pytest.mark.parametrize("lock", LOCKS[:3])
def test_the_development_lock_holds_the_others(lock: str) -> None:
    """What is tested is what ships: the locks agree on every version."""
    development = pins("requirements-dev.lock")
    assert {name: development.get(name) for name in pins(lock)} == pins(lock)


@pytest.mark.parametrize("package", sorted(ADVISORIES["floor"]))
def test_no_locked_version_has_a_recorded_hole(package: str) -> None:
    """No lock holds a version with a published advisory that we know of (R159, R161)."""
    floor = ADVISORIES["floor"][package]
    for lock in LOCKS:
        version = pins(lock).get(canonicalize_name(package))
        assert version is None or version >= Version(floor["version"]), (
            f"{lock}: {package} {version}, {floor['advisories']}"
        )


def test_the_floors_are_about_what_is_used() -> None:
    """The advisory list speaks of packages that are locked, so that it cannot pass by being about nothing."""
    assert set(map(canonicalize_name, ADVISORIES["floor"])) <= pins("requirements-dev.lock").keys()
