"""Tokens that others keep: a value, or a file that is rewritten under us."""

from pathlib import Path

import pytest
from support.vaults import CATALOG, Clock, service

from proxy.catalog.model import Scheme
from proxy.connectors.sources.static import FileSource, StaticSource
from proxy.errors import ConfigurationError, CredentialInvalid, NotConnected, RefreshFailed
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


async def test_a_value_is_always_ready() -> None:
    """The same credential each time, under its name or none; another name is not connected; nothing is better."""
    source = StaticSource(
        CATALOG.services["tenant"], Secret("t"), config={"subdomain": "ACME"}, scheme="raw", name="main"
    )
    found = source.ready("tenant", None)
    assert found is not None
    assert (found.access_token, found.config, found.scheme, found.connection) == (
        Secret("t"), {"subdomain": "acme"}, "raw", "main",
    )  # fmt: skip
    assert found is source.ready("tenant", "main") is await source.obtain("tenant", None)
    assert source.ready("tenant", "other") is None
    with pytest.raises(NotConnected, match="one connection here, 'main'"):
        await source.obtain("tenant", "other")
    assert await source.refused(found) is None


@pytest.mark.parametrize("token", ["", "two words", "new\nline", "ümlaut"])
def test_a_bad_value_stops_the_start(token: str) -> None:
    """A token that no header can carry is a configuration error that does not repeat it."""
    with pytest.raises(ConfigurationError, match="slack: token") as caught:
        StaticSource(CATALOG.services["slack"], Secret(token))
    assert not token or token not in str(caught.value)


def test_a_missing_param_stops_the_start() -> None:
    """A service that needs a connection_config value refuses a static token without it."""
    with pytest.raises(ConfigurationError, match="subdomain"):
        StaticSource(CATALOG.services["tenant"], Secret("t"))


@pytest.mark.parametrize(
    ("scheme", "token", "usable"),
    [
        ("basic", "ann@acme.example:pass wörd", True),
        ("basic", "no-colon", False),
        ("basic", "a:b\r\n", False),
        ("raw", "Token abc", True),
        ("raw", " padded", False),
        ("raw", "ü", False),
        ("bearer", "a.b-c_d/e+f=", True),
        ("header", "k\x7f", False),
    ],
)
def test_what_each_scheme_can_carry(*, scheme: Scheme, token: str, usable: bool) -> None:
    """Tokens are checked against the scheme that will carry them."""
    one = service("one", scheme=scheme)
    if usable:
        assert StaticSource(one, Secret(token)).ready("one", None) is not None
    else:
        with pytest.raises(ConfigurationError):
            StaticSource(one, Secret(token))


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A rewritten file counts within a second, one that did not change keeps the same object."""
    clock, path = Clock(), tmp_path / "token"
    path.write_text("one\n")
    source = FileSource(CATALOG.services["slack"], path, clock=clock)
    first = await source.obtain("slack", None)
    assert first.access_token == Secret("one")
    clock.now += 0.9
    assert source.ready("slack", None) is first
    clock.now += 0.2
    assert source.ready("slack", None) is None
    assert await source.obtain("slack", None) is first
    (tmp_path / "new").write_text("two\n")
    (tmp_path / "new").replace(path)
    clock.now += 1.1
    second = await source.obtain("slack", None)
    assert (second.access_token, second.generation) == (Secret("two"), 2)


async def test_a_refusal_looks_at_the_file_at_once(tmp_path: Path) -> None:
    """After a refused token a file that changed meanwhile gives the new one without waiting for the second."""
    path = tmp_path / "token"
    path.write_text("one")
    source = FileSource(CATALOG.services["slack"], path, clock=Clock())
    first = await source.obtain("slack", None)
    path.write_text("newer")
    renewed = await source.refused(first)
    assert renewed is not None
    assert renewed.access_token == Secret("newer")


async def test_a_file_that_is_gone_for_now(tmp_path: Path) -> None:
    """The last token serves on for five minutes while the file is away, then it is an error; a first one at once."""
    clock, path = Clock(), tmp_path / "token"
    source = FileSource(CATALOG.services["slack"], path, clock=clock)
    with pytest.raises(RefreshFailed, match="FileNotFoundError"):
        await source.obtain("slack", None)
    path.write_text("one")
    clock.now += 2
    first = await source.obtain("slack", None)
    path.unlink()
    clock.now += 299
    assert await source.obtain("slack", None) is first
    clock.now += 120
    with pytest.raises(RefreshFailed):
        await source.obtain("slack", None)


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"x" * 70000])
async def test_a_file_without_a_token(tmp_path: Path, content: bytes) -> None:
    """An empty or impossible file is told as such."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(CredentialInvalid, match="cannot be used"):
        await FileSource(CATALOG.services["slack"], path, clock=Clock()).obtain("slack", None)
