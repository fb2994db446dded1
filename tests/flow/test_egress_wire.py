"""Where the proxy connects to, and where it never does (R75, R78 to R80, R82)."""

import asyncio
import ipaddress
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Lab
from support.proxy import ROOT, service_file
from support.raw import document
from support.upstream import Upstream
from yarl import URL

pytestmark = pytest.mark.traced

DENIED = {
    "loopback": "127.0.0.1",
    "loopback_net": "127.8.9.10",
    "private_10": "10.0.0.1",
    "private_172": "172.16.0.1",
    "private_192": "192.168.0.1",
    "link_local": "169.254.1.1",
    "metadata": "169.254.169.254",
    "cgnat": "100.64.0.1",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "unspecified": "0.0.0.0",
    "test_net": "192.0.2.1",
    "v6_loopback": "[::1]",
    "v6_unspecified": "[::]",
    "v6_link_local": "[fe80::1]",
    "v6_private": "[fd00::1]",
    "v6_multicast": "[ff02::1]",
    "v6_mapped": "[::ffff:7f00:1]",
    "v6_mapped_private": "[::ffff:a00:1]",
    "v6_nat64": "[64:ff9b::7f00:1]",
    "v6_6to4": "[2002:7f00:1::]",
    "v6_teredo": "[2001:0:7f00:1::]",
    "localhost": "localhost",
}
SMOKESCREEN = ROOT.parent / "shared" / "corpora" / "smokescreen-ip-classes.jsonl"


def smokescreen() -> list[str]:
    """Addresses that must be refused by default, of the public list beside the checkout where it is there."""
    if not SMOKESCREEN.exists():
        return []
    rows = [json.loads(line) for line in SMOKESCREEN.read_text().splitlines()]
    denied = {ipaddress.ip_address(row["ip"]) for row in rows if row["deny"] and row["config"] == "default"}
    return sorted(_origin_host(address) for address in denied)


def _origin_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The canonical spelling of a host in an origin (RFC 5952, IPv4 inside IPv6 in hex)."""
    if address.version == 4:
        return str(address)
    return f"[{URL.build(scheme='https', host=str(address)).raw_host}]"


@pytest.fixture(scope="module")
def guarded(runner: asyncio.Runner, authority, tmp_path_factory) -> Iterator[Lab]:
    """A proxy with no address allowed, and one service for each address that must not be dialled."""
    services = {f"d_{name}": service_file(f"https://{host}") for name, host in DENIED.items()}
    services |= {f"s_{number}": service_file(f"https://{host}") for number, host in enumerate(smokescreen())}
    services["nowhere"] = service_file("https://does-not-exist.invalid")
    lab = Lab(
        authority,
        tmp_path_factory.mktemp("guarded"),
        services=services,
        settings={"egress": {"allow_addresses": []}},
    )
    runner.run(lab.start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())


@pytest.mark.parametrize("name", DENIED)
async def test_denied_addresses(guarded: Lab, name: str) -> None:
    """Private, local and special addresses are 502 address_refused; the answer does not say where it would have gone (SMK, R78, R156)."""
    got = await guarded.call("GET", f"/d_{name}/x")
    assert (got.status, document(got)["code"]) == (502, "address_refused")
    assert DENIED[name].strip("[]") not in document(got)["detail"]


async def test_denied_addresses_of_others(guarded: Lab, report) -> None:
    """So are the addresses of smokescreen's classification test, where the list is there (SMK, R78)."""
    hosts = smokescreen()
    report(
        f"addresses of smokescreen's list refused: {len(hosts)}" if hosts else "smokescreen's list: not there"
    )
    for number, host in enumerate(hosts):
        got = await guarded.call("GET", f"/s_{number}/x")
        assert (got.status, document(got)["code"]) == (502, "address_refused"), host


async def test_plain_loopback_is_the_operators_word(guarded: Lab) -> None:
    """An ``http://`` origin on a literal loopback address, which only an operator's own file may name, is dialled (design section 5)."""
    assert (await guarded.call("GET", "/plain/x")).status == 200
    assert len(guarded.plain.peers) == 1


async def test_unknown_names(guarded: Lab) -> None:
    """A name that does not resolve is 502 upstream_unreachable (SMK)."""
    got = await guarded.call("GET", "/nowhere/x", deadline=15)
    assert (got.status, document(got)["code"]) == (502, "upstream_unreachable")


async def test_refusals_are_logged_with_their_address(guarded: Lab) -> None:
    """The operator sees what was refused and why (R157)."""
    await guarded.call("GET", "/d_metadata/x")
    assert "169.254.169.254" in guarded.proxy.log


@pytest.mark.parametrize("allowed", [["127.0.0.1/32"], ["127.0.0.0/8"], []], ids=["exact", "network", "none"])
async def test_allowed_addresses_are_dialled(authority, tmp_path: Path, allowed: list[str]) -> None:
    """What the operator lists may be dialled, and nothing else (SMK)."""
    inner = Upstream(authority.server("127.0.0.1"))
    async with inner.running():
        settings = {"egress": {"allow_addresses": allowed, "ca_hosts": ["127.0.0.1"]}}
        services = {"inner": service_file(f"https://{inner.address}")}
        async with Lab(authority, tmp_path, services=services, settings=settings) as one:
            assert (await one.call("GET", "/inner/x")).status == (200 if allowed else 502)
        assert len(inner.peers) == (1 if allowed else 0)


async def test_refused_connections(authority, tmp_path: Path) -> None:
    """A closed port is 502 upstream_unreachable (SMK, GO 19)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with Lab(authority, tmp_path, services={"closed": service_file(f"http://127.0.0.1:{port}")}) as one:
        got = await one.call("POST", "/closed/x", body=b"x")
        assert (got.status, document(got)["code"]) == (502, "upstream_unreachable")
        assert str(port) not in document(got)["detail"]


async def test_itself_is_never_dialled(authority, tmp_path: Path) -> None:
    """The proxy's own address and port are refused though loopback is allowed: no loops (SMK, R79)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    services = {"myself": service_file(f"http://127.0.0.1:{port}")}
    async with Lab(authority, tmp_path, services=services, port=port) as one:
        assert one.proxy.address[1] == port
        got = await one.call("GET", "/myself/-/health")
        assert (got.status, document(got)["code"]) == (502, "address_refused")


async def test_proxy_variables_are_ignored(authority, tmp_path: Path) -> None:
    """HTTP_PROXY and its kin in the environment lead nothing astray (httpoxy, R82)."""
    trap = Upstream()
    async with trap.running():
        variables = dict.fromkeys(
            ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
            f"http://{trap.address}",
        )
        async with Lab(authority, tmp_path, environment=variables) as one:
            assert (
                await one.call("GET", "/test/x", fields=[("Proxy", f"http://{trap.address}")])
            ).status == 200
            assert (await one.call("GET", "/plain/x")).status == 200
        assert not trap.peers


@pytest.mark.parametrize(
    "fields",
    [[("X-Forwarded-Host", "evil.example")], [("Forwarded", "host=evil.example")], [("X-Original-URL", "/evil")], [("X-Rewrite-URL", "/evil")], [("X-Host", "evil.example")], [("Base-Url-Override", "https://evil.example")]],
    ids=lambda fields: fields[0][0],
)  # fmt: skip
async def test_no_field_chooses_the_host(lab: Lab, fields: list[tuple[str, str]]) -> None:
    """Scheme, host, port and path come from the catalog and the target alone (R35, R75)."""
    got = await lab.call("GET", "/test/x", fields=fields, host="evil.example")
    assert got.status == 200
    seen = document(got)
    assert (seen["target"], seen["sni"]) == ("/x", "up.example")
    assert ["Host", "up.example"] in [[name.title(), value] for name, value in seen["fields"]]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/test/../plain/x", 400), ("/test/%2e%2e/plain/x", 400), ("/test/..%2fplain", 400), ("//test/x", 404), ("/TEST/x", 404), ("/test;x/y", 404), ("/test%2fx", 404), ("/%74est/x", 404),
        ("/testx/y", 404), ("/tes/y", 404), ("/", 404), ("/-/health/", 404), ("/-/healthz", 404), ("/test/%252e%252e/x", 400), ("/test/a/./b", 400),
    ],
)  # fmt: skip
async def test_the_first_segment_is_literal(lab: Lab, target: str, status: int) -> None:
    """No spelling of a path reaches another service than its literal first segment (O2P, R71, R72, R74)."""
    got = await lab.call("GET", target)
    assert got.status == status
    assert not lab.upstream.peers
    assert not lab.plain.peers
