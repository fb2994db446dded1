"""The client of token endpoints over real sockets, against a provider that answers badly in every way."""

import asyncio
import gzip
import json
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network

import pytest
from support.certificates import Authority
from support.providers import scripted
from support.providers.scripted import JSON, Scripted
from support.toxic import Relay, ResetPeer
from support.upstream import Peer, Upstream, answer
from support.vaults import service

from proxy.catalog.grants import OAuth
from proxy.catalog.model import Service
from proxy.connectors.model import Tokens
from proxy.connectors.oauth import messages
from proxy.connectors.oauth.answers import (
    ApplicationFault,
    GrantDead,
    NotSent,
    OutcomeUnknown,
    ProviderBusy,
    TokenFault,
)
from proxy.connectors.oauth.bodies import MAX_BODY
from proxy.connectors.oauth.endpoint import LIMIT_S, TokenEndpoint
from proxy.connectors.oauth.messages import Outgoing
from proxy.connectors.oauth.registration import Registration
from proxy.forwarding.addresses import Dial
from proxy.forwarding.egress import Dialer, EgressPolicy
from proxy.secret import Secret
from proxy.token_session import session_connector

pytestmark = pytest.mark.usefixtures("runner")
NOW = 1_800_000_000.0
REGISTRATION = Registration("scripted", "scripted", scripted.CLIENT_ID, Secret(scripted.CLIENT_SECRET))
CANARY = "canary-refresh-token"


def service_of(origin: str) -> Service:
    oauth = OAuth("scripted", f"{origin}/authorize", f"{origin}/token", revoke_url=f"{origin}/revoke")
    return replace(service("scripted"), oauth=oauth)


@asynccontextmanager
async def endpoint(limit_s: float = 15.0, **policy) -> AsyncIterator[TokenEndpoint]:
    policy.setdefault("allow_addresses", (ip_network("127.0.0.0/8"),))
    dialer = Dialer(EgressPolicy(**policy), time.monotonic)
    one = TokenEndpoint(lambda url: session_connector(dialer, url), lambda: NOW, limit_s=limit_s)
    try:
        yield one
    finally:
        await one.close()
        await dialer.aclose()


def refresh(service: Service) -> Outgoing:
    return messages.refresh_request(service, REGISTRATION, refresh_token=Secret(CANARY), config={})


async def fault_of(*replies: scripted.Reply, limit_s: float = 15.0) -> TokenFault:
    async with Scripted().running() as provider, endpoint(limit_s) as one:
        known = service_of(provider.origin)
        provider.answer(*replies)
        with pytest.raises(TokenFault) as caught:
            await one.ask(known, refresh(known))
    assert CANARY not in f"{caught.value!s}{caught.value!r}{caught.value.__cause__!r}"
    return caught.value


async def test_a_good_answer() -> None:
    """One request with what the message says and nothing that tells of others; lifetimes count from before it."""
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        grant = await one.ask(known, refresh(known))
        (request,) = provider.requests
    assert grant.tokens.access_token.reveal() == "access-1"
    assert grant.tokens.refresh_token == Secret("refresh-1")
    assert (grant.tokens.expires_at, grant.tokens.issued_at) == (NOW + 3600, NOW)
    assert grant.scopes == ("read",)
    assert request.body == (
        b"grant_type=refresh_token&refresh_token=canary-refresh-token"
        b"&client_id=scripted-client&client_secret=scripted-client-secret"
    )
    assert (request.method, request.path) == ("POST", "/token")
    assert request.headers == {
        "host": f"127.0.0.1:{provider.port}",
        "user-agent": "connector-proxy",
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "close",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": str(len(request.body)),
    }


UNKNOWN = [
    *((scripted.body(status, {}), f"{status}") for status in (501, 502, 504, 520, 303)),
    (scripted.HTML, "not JSON"),
    (scripted.HTML_502, "502"),
    (scripted.EMPTY, "is empty"),
    (scripted.CUT_JSON, "not JSON"),
    *((reply, "") for reply in scripted.WRONG_TYPES),
    (scripted.CUT_BODY, "the connection broke"),
    (scripted.CLOSE_AFTER, "the connection broke"),
    (scripted.RESET_AFTER, "the connection broke"),
    (scripted.body(204, b""), "is empty"),
    (scripted.body(200, b'{"access_token":"x"}', JSON, (b"Content-Encoding", b"br")), "content coding"),
    (scripted.body(200, gzip.compress(b"{}")[:-6], JSON, (b"Content-Encoding", b"gzip")), "cut short"),
    (scripted.body(200, b"nonsense", JSON, (b"Content-Encoding", b"gzip")), "does not unpack"),
    (scripted.body(200, b"[" * 200_000, JSON), "not JSON"),
    (scripted.body(200, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, JSON), ""),
]


@pytest.mark.parametrize(("reply", "match"), UNKNOWN)
async def test_what_may_have_been_carried_out(reply: scripted.Reply, match: str) -> None:
    """No readable whole answer: the refresh token may be spent, and nobody concludes anything else (R120, R121)."""
    fault = await fault_of(reply)
    assert isinstance(fault, OutcomeUnknown)
    assert match in fault.detail


@pytest.mark.parametrize(
    ("reply", "kind", "code", "retry_after"),
    [
        (scripted.busy(429), ProviderBusy, "temporarily_unavailable", 7.0),
        (scripted.busy(503, "120"), ProviderBusy, "temporarily_unavailable", 120.0),
        (scripted.busy(503, "Fri, 15 Jan 2027 08:01:00 GMT"), ProviderBusy, "temporarily_unavailable", 60.0),
        (scripted.busy(500, "x"), ProviderBusy, "temporarily_unavailable", None),
        (scripted.body(302, b"", (b"Location", b"https://other.example/")), ProviderBusy, None, None),
        (scripted.body(307, b"", (b"Location", b"/token2")), ProviderBusy, None, None),
        (scripted.body(403, b"<html>", (b"Content-Type", b"text/html")), ProviderBusy, None, None),
        (scripted.error("invalid_grant"), GrantDead, "invalid_grant", None),
        (scripted.error("invalid_client", 401), ApplicationFault, "invalid_client", None),
        (scripted.error("slow_down"), ProviderBusy, "slow_down", None),
    ],
)
async def test_what_was_answered(reply, kind, code, retry_after) -> None:
    """Each whole refusal is what it says, with its code and wait; redirects are not followed (R81, R120)."""
    fault = await fault_of(reply)
    assert (type(fault), fault.code, fault.retry_after) == (kind, code, retry_after)


async def test_nothing_left_when_nobody_listens() -> None:
    """A refused connection, a name that is none, an address that is not allowed: the provider knows nothing."""
    async with Scripted().running() as provider:
        known = service_of(provider.origin)
        outgoing = refresh(known)
    async with endpoint() as one:
        with pytest.raises(
            NotSent, match=r"^the token endpoint of Scripted cannot be reached \(Client\w+\)$"
        ):
            await one.ask(known, outgoing)
        nowhere = Outgoing("POST", "https://nowhere.invalid/token", {}, b"x")
        with pytest.raises(NotSent, match="cannot be reached"):
            await one.ask(known, nowhere)
    async with endpoint(allow_addresses=()) as one:
        inside = Outgoing("POST", "https://localhost:1/token", {}, b"x")
        with pytest.raises(NotSent, match="cannot be reached"):
            await one.ask(known, inside)


async def test_nothing_left_without_a_trusted_certificate(authority: Authority) -> None:
    """A stranger's certificate, or one for another name, ends it before a byte of the request (R81)."""
    contexts: list[tuple[ssl.SSLContext, type[Exception] | None]] = [
        (authority.server_of_stranger("token.example"), NotSent),
        (authority.server_expired("token.example"), NotSent),
        (authority.server("other.example"), NotSent),
        (authority.server("token.example"), None),
    ]
    known = service_of("https://token.example")
    outgoing = Outgoing("POST", "https://token.example/token", {}, b"secret=1")
    for context, expected in contexts:
        upstream = Upstream(context)
        upstream.script = _well
        await upstream.start()
        try:
            async with endpoint(
                connect_to={"token.example:443": Dial("127.0.0.1", upstream.port)},
                ca_file=authority.ca_file,
            ) as one:
                if expected is None:
                    assert (await one.ask(known, outgoing)).tokens.access_token == Secret("t")
                else:
                    with pytest.raises(expected, match="cannot be reached"):
                        await one.ask(known, outgoing)
                    assert all(not peer.received for peer in upstream.peers)
        finally:
            await upstream.stop()


async def _well(peer: Peer) -> None:
    await peer.request()
    await peer.send(answer(200, b'{"access_token":"t"}', JSON))


async def test_a_reset_before_the_request_is_not_taken_for_unsent() -> None:
    """A connection that stood may have carried the request: what cannot be known is not claimed (R121)."""
    async with Scripted().running() as provider, Relay(("127.0.0.1", provider.port)).running() as relay:
        known = service_of(f"http://127.0.0.1:{relay.port}")
        relay.set(up=ResetPeer(after=40))
        async with endpoint() as one:
            with pytest.raises(OutcomeUnknown, match="the connection broke"):
                await one.ask(known, refresh(known))


async def test_the_time_limit_is_hard() -> None:
    """A silent provider is left at the limit, and the outcome is unknown: the request had left (R105, R121)."""
    gate = asyncio.Event()
    async with asyncio.timeout(LIMIT_S * 0.9):
        fault = await fault_of(scripted.held(gate), limit_s=0.2)
    assert isinstance(fault, OutcomeUnknown)
    assert "no answer in time" in fault.detail


async def test_a_drip_of_bytes_does_not_stretch_the_limit() -> None:
    """The limit counts from the look-up to the last byte, however steadily bytes trickle in."""

    async def drip(peer: Peer, *_: object) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await peer.send(b" ")
            await asyncio.sleep(0.01)

    fault = await fault_of(scripted.Reply(drip), limit_s=0.3)
    assert isinstance(fault, OutcomeUnknown)
    assert "no answer in time" in fault.detail


@pytest.mark.parametrize("declared", [True, False])
async def test_a_gigabyte_is_not_read(*, declared: bool) -> None:
    """An endless answer is left at 1 MiB; what was taken stays within what sockets buffer (R105)."""
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        provider.answer(scripted.huge(declared=declared))
        with pytest.raises(OutcomeUnknown, match="too large"):
            await one.ask(known, refresh(known))
        assert provider.sent < 32 * 2**20


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_bomb_does_not_unfold(coding: str) -> None:
    """A small packed answer with a huge inside is refused without being unpacked whole."""
    huge = json.dumps({"access_token": "a" * (16 * 2**20)}).encode()
    packed = gzip.compress(huge, 1) if coding == "gzip" else zlib.compress(huge, 1)
    assert len(packed) < MAX_BODY
    fault = await fault_of(scripted.body(200, packed, JSON, (b"Content-Encoding", coding.encode())))
    assert isinstance(fault, OutcomeUnknown)
    assert "unpacked" in fault.detail


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
async def test_packed_answers_are_read_all_the_same(coding: str) -> None:
    """A provider that packs although it was asked not to is understood."""
    plain = b'{"access_token":"t","refresh_token":"r"}'
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[coding](plain)
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        provider.answer(scripted.body(200, packed, JSON, (b"Content-Encoding", coding.encode())))
        assert (await one.ask(known, refresh(known))).tokens.refresh_token == Secret("r")


async def test_a_form_without_its_end_is_no_answer() -> None:
    """A form whose length nobody told may be cut in the middle of a token: it is not believed."""

    async def play(peer: Peer, *_: object) -> None:
        await peer.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\naccess_token=abc"
        )
        await peer.finish()

    fault = await fault_of(scripted.Reply(play))
    assert isinstance(fault, OutcomeUnknown)
    assert "cut" in fault.detail


async def test_a_revocation_without_a_body() -> None:
    """A bearer revocation has an empty body and says so (Slack, Dropbox)."""
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        assert known.oauth is not None
        bearer = replace(known, oauth=replace(known.oauth, revoke_auth="bearer", revoke_body="none"))
        (outgoing,) = messages.revoke_requests(bearer, REGISTRATION, Tokens(Secret("a-1")), config={})
        assert await one.tell(outgoing)
        (request,) = provider.revocations
    assert (request.headers["content-length"], request.body) == ("0", b"")
    assert request.headers["authorization"] == "Bearer a-1"
    assert "content-type" not in request.headers


async def test_cookies_and_connections_are_not_kept() -> None:
    """Each request has a connection of its own and knows nothing of the one before."""
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        provider.answer(
            scripted.body(200, {"access_token": "a"}, (b"Set-Cookie", b"session=1; Path=/")),
        )
        for _ in range(2):
            await one.ask(known, refresh(known))
        assert [request.headers.get("cookie") for request in provider.requests] == [None, None]
        assert len(provider._upstream.peers) == 2


async def test_cancelling_ends_the_exchange() -> None:
    """A cancelled request ends at once as cancelled, and closes its connection."""
    gate = asyncio.Event()
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        provider.answer(scripted.held(gate))
        task = asyncio.create_task(one.ask(known, refresh(known)))
        await provider.wait(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(provider._upstream.peers[0].ended.wait(), 20)


async def test_a_closed_endpoint_sends_nothing() -> None:
    """After close no request leaves, and that is said truthfully."""
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        await one.close()
        with pytest.raises(NotSent):
            await one.ask(known, refresh(known))
        assert not await one.tell(refresh(known))
        assert provider.token_requests() == 0


@pytest.mark.parametrize(
    ("status", "content", "accepted"),
    [
        (200, b"", True),
        (200, b"{}", True),
        (204, b"", True),
        (200, b'{"ok":true,"revoked":true}', True),
        (200, b'{"ok":false,"error":"invalid_auth"}', False),
        (200, b'{"error":"unsupported_token_type"}', False),
        (400, b'{"error":"invalid_request"}', False),
        (503, b"", False),
        (302, b"", False),
    ],
)
async def test_a_revocation_is_told_truthfully(status, content, accepted) -> None:
    """True only when the provider accepted it: also not for an error inside a 200 (R109)."""
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        provider.answer(scripted.body(status, content, JSON))
        assert await one.tell(refresh(known)) is accepted


async def test_revocations_have_a_time_limit_of_their_own() -> None:
    """A silent or absent provider holds a disconnect up for no longer than told (R109)."""
    tokens = Tokens(Secret("a"), Secret("r"))
    async with Scripted().running() as provider, endpoint() as one:
        known = service_of(provider.origin)
        (outgoing,) = messages.revoke_requests(known, REGISTRATION, tokens, config={})
        assert await one.tell(outgoing)
        assert provider.revocations[0].form["token"] == "r"
        provider.answer(scripted.held(asyncio.Event()))
        async with asyncio.timeout(4):  # without being told: 5 s
            assert not await one.tell(refresh(known), timeout_s=0.1)
    assert not await one.tell(outgoing)
