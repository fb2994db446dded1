"""The data path's decisions about keys, accounts and tokens, from a caller's socket to a service's."""

import asyncio
import base64

import pytest
from support import steps
from support.plane import KEY, OTHER_KEY, code, credential, scene, tokens
from support.upstream import Peer, answer

from proxy.catalog.model import Catalog
from proxy.errors import ReauthorizationRequired

OK = answer(200, b"fine")
REFUSED = answer(401, b"who are you?", (b"X-From", b"service"))


async def refusing_the_first_token(peer: Peer) -> None:
    while True:
        request = await peer.request()
        await peer.send(REFUSED if request.value("authorization") == b"Bearer token-one" else OK)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_refused_token_is_replaced_once(method: str) -> None:
    """On a 401 the source is asked once; with a newer token the request goes out again and its answer is the answer (R63)."""
    async with scene(refusing_the_first_token) as on:
        on.source.newer = credential("token-two")
        got = await on.call(method)
        assert (got.status, got.body) == (200, b"fine")
        assert tokens(on.upstream) == [b"Bearer token-one", b"Bearer token-two"]
        assert [each.access_token.reveal() for each in on.source.refusals] == ["token-one"]
        again = await on.call()
        assert again.status == 200
        assert tokens(on.upstream)[2:] == [b"Bearer token-two"]


async def test_a_second_401_passes() -> None:
    """When the newer token is refused too, that 401 reaches the caller as it is, and nobody is asked again (R63)."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(REFUSED)

    async with scene(script) as on:
        on.source.newer = credential("token-two")
        got = await on.call()
        assert (got.status, got.body, got.value("x-from")) == (401, b"who are you?", b"service")
        assert got.value("proxy-status") is None
        assert len(on.source.refusals) == 1
        assert len(on.upstream.seen()) == 2


async def test_without_a_newer_token_the_401_passes() -> None:
    """Nothing newer, or the very same credential: the request is not repeated and the service's 401 passes (R63)."""
    async with scene(refusing_the_first_token) as on:
        assert (await on.call()).status == 401
        on.source.newer = on.source.at_hand[None]
        assert (await on.call()).status == 401
        assert len(on.upstream.seen()) == 2
        assert len(on.source.refusals) == 2


async def test_a_grant_that_proves_dead() -> None:
    """When asking for a newer token shows that the grant is dead, the caller is told so with a 424, not the 401 (R63)."""
    async with scene(refusing_the_first_token) as on:
        on.source.failure = ReauthorizationRequired("connect again", service="svc")
        got = await on.call()
        assert (got.status, code(got)) == (424, "reauthorization_required")
        await asyncio.sleep(0)
        assert (await on.call()).status == 424
        assert on.pool.open_connections == 0  # the unread 401s took their connections with them


async def test_the_replay_on_a_kept_connection() -> None:
    """What a connection remembers of a caller's fields follows the token at once (R41, R63)."""
    async with scene(refusing_the_first_token) as on, on.calling() as caller:
        on.source.newer = credential("token-two")
        for _ in range(3):
            assert (await on.ask(caller)).status == 200
        assert tokens(on.upstream) == [b"Bearer token-one"] + [b"Bearer token-two"] * 3
        on.source.at_hand[None] = credential("token-three")
        assert (await on.ask(caller)).status == 200
        assert tokens(on.upstream)[4:] == [b"Bearer token-three"]


async def test_changes_count_for_the_next_request_on_a_kept_connection() -> None:
    """Revocation, expiry, other permits, another catalog: each is obeyed by the very next request of the same bytes (R89, R90)."""
    async with scene() as on, on.calling() as caller:
        assert (await on.ask(caller)).status == 200
        on.keys(steps.record("other"))
        assert code(await on.ask(caller)) == "not_permitted"
        on.keys(steps.record("*"))
        assert (await on.ask(caller)).status == 200
        on.keys(steps.record("*", revoked_at=1.0))
        assert code(await on.ask(caller)) == "invalid_key"
        on.keys(steps.record("*", expires_at=on.wall + 5))
        assert (await on.ask(caller)).status == 200
        on.wall += 5
        assert code(await on.ask(caller)) == "invalid_key"
        on.keys(steps.record("*"))
        assert (await on.ask(caller)).status == 200
        on.put(catalog=Catalog({"svc": on.service("svc", credential_paths=steps.SpellingSet(("/x",)))}))
        assert code(await on.ask(caller)) == "credential_path"
        on.put(catalog=Catalog({}))
        assert code(await on.ask(caller)) == "unknown_service"
        on.put(catalog=on.catalog)
        on.source.at_hand.clear()
        assert code(await on.ask(caller)) == "not_connected"
        assert len(on.upstream.seen()) == 4


async def test_callers_that_share_a_connection() -> None:
    """Two keys that take turns on one connection (behind a gateway) each get their own permits, every time (R41, R90)."""
    async with scene() as on, on.calling() as caller:
        on.keys(steps.record("svc"), steps.record("other", key=OTHER_KEY.encode()))
        on.source.at_hand[None] = credential()
        for _ in range(3):
            assert (await on.ask(caller, "/svc/x")).status == 200
            assert code(await on.ask(caller, "/svc/x", key=OTHER_KEY)) == "not_permitted"
            assert code(await on.ask(caller, "/other/x")) == "not_permitted"
            assert code(await on.ask(caller, "/svc/x", key=KEY[:-1] + "~")) == "invalid_key"
            assert (await on.ask(caller, f"/svc/x?key={KEY}", key=None)).status == 200
            assert code(await on.ask(caller, f"/svc/x?key={OTHER_KEY}", key=None)) == "not_permitted"
            assert code(await on.ask(caller, "/svc/x", key=None)) == "invalid_key"
        assert not any(KEY.encode() in peer.received for peer in on.upstream.peers)


async def test_a_rooted_key() -> None:
    """A key made for one service reaches it without its prefix; a literal service id wins, for every key (R71, R74)."""
    async with scene() as on:
        on.keys(steps.record("svc", root="svc"), steps.record("svc", key=OTHER_KEY.encode(), root="gone"))
        assert (await on.call(target="/users/me?a=1")).status == 200
        assert (await on.call(target="/svc/users/me")).status == 200
        assert code(await on.call(target="/other/x")) == "not_permitted"
        assert code(await on.call(target="/users/../x")) == "ambiguous_target"
        assert code(await on.call(target="/oauth/token")) == "credential_path"
        assert code(await on.call(target="/users/me", key=OTHER_KEY)) == "unknown_service"
        assert [message.target for message in on.upstream.seen()] == [b"/users/me?a=1", b"/users/me"]


async def test_permits_for_a_connection_that_is_not_known_yet() -> None:
    """Where permits name connections, the default one's name is found out before judging; nothing leaves before (R90)."""
    async with scene() as on:
        on.source.at_hand.clear()
        on.source.later = {None: credential("late", "main"), "side": credential("side-token", "side")}
        on.keys(steps.record("svc@main"))
        assert (await on.call()).status == 200
        assert code(await on.call(target="/svc@side/x")) == "not_permitted"
        on.keys(steps.record("svc@side"))
        assert code(await on.call()) == "not_permitted"
        assert (await on.call(target="/svc@side/x")).status == 200
        on.source.later = {}
        assert code(await on.call()) == "not_connected"
        assert tokens(on.upstream) == [b"Bearer late", b"Bearer side-token"]


async def test_permits_are_judged_before_an_account_is_asked_for() -> None:
    """What a key may not call is refused without touching an account: 403, not 424 (R85)."""
    async with scene() as on:
        on.source.at_hand.clear()
        on.keys(steps.record("other"))
        assert code(await on.call()) == "not_permitted"


async def test_the_last_use_of_a_key_is_noted() -> None:
    """A key's use is noted with its time, once per key, and taken away by whoever stores it."""
    async with scene() as on:
        await on.call()
        on.wall += 3
        await on.call(target="/nothing/x")
        await on.call(key=OTHER_KEY)
        assert on.plane.take_uses() == {steps.record().key_id: on.wall}
        assert on.plane.take_uses() == {}


WAYS = [
    [("Authorization", f"Bearer {KEY}")],
    [("Authorization", f"token {KEY}")],
    [("Authorization", KEY)],
    [("Authorization", "Basic " + base64.b64encode(f"{KEY}:x".encode()).decode())],
    [("Authorization", "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode())],
    [("Authorization", ""), ("X-Api-Key", KEY)],
    [("X-Goog-Api-Key", KEY), ("Authorization", f"Bearer {KEY}")],
    [("Proxy-Authorization", "Basic abc"), ("X-Api-Key", KEY), ("Cookie", "session=1")],
]


@pytest.mark.parametrize("fields", WAYS)
async def test_exactly_one_credential_leaves(fields: list[tuple[str, str]]) -> None:
    """However the key was shown, one Authorization leaves, the account's, and nothing of the caller's proof (R31)."""
    async with scene() as on, on.calling() as caller:
        for _ in range(2):
            assert (await on.ask(caller, key=None, fields=fields)).status == 200
        for message in on.upstream.seen():
            assert message.fields == (
                (b"Host", message.fields[0][1]),
                (b"Authorization", b"Bearer token-one"),
            )
