"""TLS to services: verified, always (R68)."""

import asyncio
import ssl
from collections.abc import Iterator

import pytest
from support.lab import HOST, Lab
from support.proxy import service_file
from support.raw import document
from support.upstream import Peer, Upstream, answer, replying

pytestmark = pytest.mark.traced

BAD = ("self-signed", "stranger", "wrong-name", "expired", "old", "no-tls")


def service_of(kind: str) -> str:
    return kind.replace("-", "_")


async def plain_answer(peer: Peer) -> None:
    """What a plain HTTP server says to a TLS greeting."""
    await peer.more()
    await peer.send(answer(400, b"plain HTTP here"))


@pytest.fixture(scope="module")
def bad(runner: asyncio.Runner, authority, tmp_path_factory) -> Iterator[tuple[Lab, dict[str, Upstream]]]:
    """A proxy whose services have one fault of TLS each."""
    contexts = {
        "self-signed": authority.server_self_signed("self-signed.example"),
        "stranger": authority.server_of_stranger("stranger.example"),
        "wrong-name": authority.server("another.example"),
        "expired": authority.server_expired("expired.example"),
        "old": authority.server_old("old.example"),
        "no-tls": None,
    }
    upstreams = {kind: Upstream(context) for kind, context in contexts.items()}
    upstreams["no-tls"].script = plain_answer
    for each in upstreams.values():
        runner.run(each.start())
    lab = Lab(
        authority,
        tmp_path_factory.mktemp("tls"),
        services={service_of(kind): service_file(f"https://{kind}.example") for kind in BAD},
        connect_to={f"{kind}.example:443": upstreams[kind].address for kind in BAD},
    )
    runner.run(lab.start())
    with lab.proxy:
        yield lab, upstreams
    runner.run(lab.stop())
    for each in upstreams.values():
        runner.run(each.stop())


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # asyncio's server side leaves a failed handshake's socket to the collector
async def test_bad_certificates_get_nothing(bad: tuple[Lab, dict[str, Upstream]], kind: str) -> None:
    """A self-signed, foreign, misnamed, expired or outdated peer is 502, and no byte of the request reaches it (NHP, NGX, CAD, R68)."""
    lab, upstreams = bad
    got = await lab.call("POST", f"/{service_of(kind)}/x", body=b"secret")
    assert got.status == 502
    if kind == "old":  # it may hang up without an alert
        assert document(got)["code"] in {"upstream_tls", "upstream_unreachable"}
    else:
        assert document(got)["code"] == "upstream_tls"
    assert kind not in got.body.decode().replace(service_of(kind), "")
    assert all(b"POST" not in bytes(peer.received) for peer in upstreams[kind].peers)


async def test_name_sni_and_alpn(lab: Lab) -> None:
    """SNI is the service's host, ALPN asks for http/1.1, and TLS is 1.2 or newer (R36, R68)."""
    got = await lab.call("GET", "/test/x")
    peer = lab.upstream.peers[0]
    assert (document(got)["sni"], peer.alpn) == (HOST, "http/1.1")
    assert peer.tls_version in {"TLSv1.2", "TLSv1.3"}


async def test_extra_roots_count_only_for_their_hosts(authority, tmp_path) -> None:
    """``ca_file`` is no trust for hosts outside of ``ca_hosts`` (design section 10)."""
    settings = {"egress": {"ca_hosts": ["other.example"], "allow_addresses": ["127.0.0.1/32"]}}
    async with Lab(authority, tmp_path, settings=settings) as one:
        got = await one.call("GET", "/test/x")
        assert (got.status, document(got)["code"]) == (502, "upstream_tls")
        assert not one.upstream.seen()


async def test_end_without_close_notify_is_a_cut(lab: Lab) -> None:
    """A body that lasts until the end is whole only if TLS says so: a bare TCP end is a truncation (R45)."""
    await lab.upstream.fresh(replying(b"HTTP/1.1 200 OK\r\n\r\nhello", then="cut"))
    async with lab.calling() as caller:
        await caller.send(
            b"GET /test/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % lab.proxy.key.encode()
        )
        ending = await caller.ending()
    assert ending.closed
    assert not ending.data.endswith(b"0\r\n\r\n")


async def test_abrupt_end_after_a_whole_body_is_fine(lab: Lab) -> None:
    """When the length is reached, how the connection ends does not matter (NGX)."""
    await lab.upstream.fresh(replying(answer(200, b"hello"), then="cut"))
    for _ in range(3):
        assert (await lab.call("GET", "/test/x")).body == b"hello"


def test_the_bad_ones_are_bad(authority) -> None:
    """The fixtures' certificates are refused by Python's own verification too, and the good one is not."""
    good = authority.trusting()
    assert good.verify_mode is ssl.CERT_REQUIRED
    assert good.check_hostname
