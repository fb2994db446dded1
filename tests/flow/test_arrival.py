"""Ways of arriving without a service in the path: listener, virtual host, key with a root, fallback table."""

import json
from collections.abc import Iterator

import pytest
from support import raw
from support.lab import HOST, Lab
from support.proxy import service_file

from proxy.catalog import file_hash, packaged_directory

SALES = "salesforce.localhost"


@pytest.fixture(scope="module")
def arriving(runner, authority, tmp_path_factory) -> Iterator[Lab]:
    """A proxy with a listener for ``own``, virtual hosts, and the fallback table switched on."""
    shipped = file_hash(packaged_directory() / "services" / "salesforce.toml")
    services = {
        "own": service_file(f"https://{HOST}"),
        "salesforce": service_file(f"https://{HOST}", override="true", based_on=f'"{shipped}"'),
    }
    lab = Lab(
        authority,
        tmp_path_factory.mktemp("arriving"),
        services=services,
        settings={
            "listeners": {"own": "127.0.0.1:0"},
            "data": {"host_suffixes": ["localhost"], "fallback": True},
            "keys.rooted": {"hash": "sha256:" + "0" * 64, "allow": ["own"], "root": "own"},
        },
    )
    runner.run(lab.start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())


def listener(lab: Lab) -> tuple[str, int]:
    told = json.loads((lab.proxy.data_dir / "server.json").read_text())["listeners"]
    service, _, address = told[0].partition("=")
    assert service == "own"
    host, _, port = address.rpartition(":")
    return host, int(port)


async def reached(
    lab: Lab, target: str, *, host: str = "proxy.example", at: tuple[str, int] | None = None
) -> str:
    """The target that arrived at the service, or the code of the refusal."""
    await lab.fresh()
    answer = await raw.call(at or lab.proxy.address, "GET", target, key=lab.proxy.key, host=host)
    if answer.status != 200:
        return str(raw.document(answer)["code"])
    return lab.upstream.seen()[0].target.decode()


@pytest.mark.parametrize(
    ("target", "arrives"),
    [("/services/data/v1", "/services/data/v1"), ("/own/x", "/x"), ("/test/y?a=1", "/y?a=1"), ("/", "/")],
)
async def test_a_listener_of_one_service_needs_no_prefix(arriving: Lab, target: str, arrives: str) -> None:
    """What comes there goes to the service; its id, and any other service's, may still stand in front."""
    assert await reached(arriving, target, at=listener(arriving)) == arrives


@pytest.mark.parametrize(
    ("host", "target", "arrives"),
    [
        (SALES, "/services/oauth", "/services/oauth"),
        (SALES.upper() + ":8080", "/x", "/x"),
        ("own.localhost.", "/x", "/x"),
        ("own.localhost", "/test/x", "/x"),
        ("a.own.localhost", "/x", "unknown_service"),
        ("ownlocalhost", "/x", "unknown_service"),
        ("nothing.localhost", "/x", "unknown_service"),
    ],
)
async def test_a_virtual_host_names_the_service(arriving: Lab, host: str, target: str, arrives: str) -> None:
    """``{service}.{suffix}`` as Host chooses the service, exactly one label deep; the path's own id wins."""
    assert await reached(arriving, target, host=host) == arrives


@pytest.mark.parametrize(
    ("target", "arrives"),
    [
        ("/services/data/v59.0/", "/services/data/v59.0/"),
        ("/servicesx/data", "unknown_service"),
        ("/api/chat.postMessage", "unknown_service"),
        ("/x/services/data", "unknown_service"),
        ("/services/../own/x", "ambiguous_target"),
    ],
)
async def test_the_fallback_table_knows_only_clear_roots(arriving: Lab, target: str, arrives: str) -> None:
    """A path that only one service has goes there when the operator wants it; nothing else is guessed."""
    assert await reached(arriving, target) == arrives


async def test_no_way_of_arriving_replaces_the_key(arriving: Lab) -> None:
    """Listener, host and path choose a service; they prove nothing (R87)."""
    await arriving.fresh()
    for at, host, target in (
        (listener(arriving), "a", "/x"),
        (arriving.proxy.address, SALES, "/x"),
        (arriving.proxy.address, "a", "/services/data"),
    ):
        assert (await raw.call(at, "GET", target, key=None, host=host)).status == 401
    assert arriving.upstream.peers == []
