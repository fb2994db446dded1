"""The wheel, as somebody gets it who has no checkout: built from the source archive, installed alone, run from elsewhere."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from proxy import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment that holds the wheel, and a folder to stand in that is no checkout."""

    binaries: Path
    elsewhere: Path

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the environment prints."""
        environment: Mapping[str, str] = {
            "HOME": str(self.elsewhere),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
        }
        done = subprocess.run(
            [self.binaries / program, *arguments],
            cwd=self.elsewhere,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that was built from it (not from the checkout)."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=50,
    )
    (source,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def installed(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A new environment with the wheel; its dependencies are those of this one, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("installed")
    context = folder / "venv"
    venv.create(context, symlinks=True, with_pip=False)
    binaries = context / "bin"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", binaries / "python", "install", "-qq"),
            *("--no-deps", "--no-index", "--no-compile", archives[1]),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        timeout=50,
    )
    # A folder that a .pth file names goes to the end of the path, and its own .pth files (the checkout's) are not read.
    packages = sysconfig.get_path("purelib", vars={"base": str(context), "platbase": str(context)})
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Installed(binaries, elsewhere)


def metadata(wheel: Path) -> Message:
    """The wheel's own description of itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_package_and_the_catalog(archives: tuple[Path, Path]) -> None:
    """All of `proxy/` and of `config/` is in the wheel, and nothing else is."""
    with zipfile.ZipFile(archives[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    code = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "proxy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    configuration = {
        f"proxy/_config/{path.relative_to(ROOT / 'config').as_posix()}"
        for path in (ROOT / "config").rglob("*")
        if path.is_file()
    }
    assert names == code | configuration
    assert sum(name.startswith("proxy/_config/services/") for name in names) == 32


def test_the_wheel_says_what_it_is(archives: tuple[Path, Path]) -> None:
    """Name, licence, Python version and dependencies reach whoever installs it; the licence's text does too."""
    said = metadata(archives[1])
    assert (said["Name"], said["License-Expression"]) == ("connector-proxy", "Apache-2.0")
    assert said["Requires-Python"] == ">=3.11"
    extras = PROJECT["optional-dependencies"]
    assert said.get_all("Provides-Extra") == sorted(extras)
    wanted = len(PROJECT["dependencies"]) + sum(map(len, extras.values()))
    assert len(said.get_all("Requires-Dist", [])) == wanted
    with zipfile.ZipFile(archives[1]) as archive:
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())


def test_the_source_archive_can_be_worked_with(archives: tuple[Path, Path]) -> None:
    """Whoever gets the source archive has the tests and the commands too."""
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "LICENSE", "README.md", "requirements-dev.lock", "tests/conftest.py"} <= names


def test_an_installed_wheel_does_not_see_the_checkout(installed: Installed) -> None:
    """The tests below speak about the wheel: nothing of the checkout can be imported."""
    path, place = json.loads(
        installed.run(
            "python", "-c", "import json, sys, proxy; print(json.dumps([sys.path, proxy.__file__]))"
        )
    )
    assert str(ROOT) not in path
    assert Path(place).is_relative_to(installed.binaries.parent)


def test_an_installed_wheel_finds_its_catalog(installed: Installed) -> None:
    """`connector-proxy services --json` lists the 32 services from any folder."""
    services = json.loads(installed.run("connector-proxy", "services", "--json"))
    ids = [service["id"] for service in services]
    assert len(set(ids)) == len(ids) == 32
    assert {"slack", "github", "googledrive", "salesforce"} <= set(ids)


def test_an_installed_wheel_can_be_run_as_a_module(installed: Installed) -> None:
    """`python -m proxy` is the same program as `connector-proxy`, of the version that the package says."""
    listed = ("services", "--json")
    assert installed.run("python", "-m", "proxy", *listed) == installed.run("connector-proxy", *listed)
    said = installed.run(
        "python", "-c", "import importlib.metadata as m; print(m.version('connector-proxy'))"
    )
    assert said.strip() == __version__


def test_an_installed_wheel_forwards_a_request(installed: Installed) -> None:
    """The demo, which forwards a real request over real TLS, works from the wheel alone and leaves nothing behind."""
    before = sorted(installed.elsewhere.rglob("*"))
    said = installed.run("connector-proxy", "demo", "--once")
    assert "Authorization: Bearer cpk_" in said
    assert '"you_called": "GET /v1/whoami"' in said
    assert sorted(installed.elsewhere.rglob("*")) == before
