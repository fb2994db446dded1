"""The outbox and the webhook: what happened is told once, signed, and not forgotten before it is taken."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from support.stores import SqlitePlace, VaultPlace
from support.vaults import NOW, Clock

from proxy.connectors import expiring, notices, webhook
from proxy.connectors.model import Tokens
from proxy.connectors.vault import Vault
from proxy.connectors.webhook import WebhookSender, signing_key
from proxy.errors import StoreError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
ROOT = Path(__file__).resolve().parents[2]
SECRET = Secret("whsec_" + "c2VjcmV0LWZvci10ZXN0cy1vbmx5LTEyMzQ1Njc4OTA=")
DAY = 86_400.0


def _documented() -> Callable[..., bool]:
    """The check that the documentation shows, as it stands there."""
    page = (ROOT / "docs" / "vault.md").read_text(encoding="utf-8")
    snippet = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert snippet is not None
    scope: dict[str, Any] = {}
    exec(snippet.group(1), scope)  # noqa: S102  # our own page
    found: Callable[..., bool] = scope["is_genuine"]
    return found


@dataclass
class Receiver:
    """An endpoint that answers with the given statuses, then 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((headers, await request.read()))
        self.came.set()
        status = self.statuses.pop(0) if self.statuses else 204
        return web.Response(status=status, headers={"Location": f"{self.url}/elsewhere"})

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@contextlib.asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(statuses=list(statuses))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    receiver.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def _sender(
    vault: Vault, url: str, clock: Clock, outcomes: list[tuple[str, str]] | None = None
) -> WebhookSender:
    told = [] if outcomes is None else outcomes
    return WebhookSender(
        vault.store,
        url,
        signing_key(SECRET),
        make_connector=lambda _: aiohttp.TCPConnector(),
        clock=clock,
        on_outcome=lambda outcome, fault: told.append((outcome, fault)),
    )


async def _tell(vault: Vault, clock: Clock, event: str = "connection.recovered", **data: object) -> None:
    async with vault.store.transaction() as transaction:
        await notices.add(transaction, clock(), event, data)


async def test_a_notice_arrives_once_and_can_be_checked(place: VaultPlace) -> None:
    """On both stores: delivered with id, time and a signature that the documented check accepts, then gone."""
    clock = Clock()
    async with receiving() as receiver, place.opened(clock=clock) as vault:
        await vault.save_connection(
            "slack", "work", Tokens(Secret("kept-access")), account="ann@acme.example"
        )
        await vault.freeze("slack", "work")
        outcomes: list[tuple[str, str]] = []
        sender = _sender(vault, receiver.url, clock, outcomes)
        assert await sender.send_one()
        assert not await sender.send_one()
        (connection,) = vault.connections()
    ((headers, body),) = receiver.got
    (told,) = receiver.documents
    assert told == {
        "id": headers["webhook-id"],
        "type": "connection.frozen",
        "timestamp": NOW,
        "data": {
            "connection": {
                "id": connection.connection_id,
                "service": "slack",
                "name": "work",
                "account": "ann@acme.example",
            }
        },
    }
    assert outcomes == [("delivered", "")]
    assert b"kept" not in body
    is_genuine = _documented()
    secret = SECRET.reveal()
    assert is_genuine(secret, headers, body, tolerance_s=float("inf"))
    assert not is_genuine(secret, headers, body + b" ", tolerance_s=float("inf"))
    assert not is_genuine(secret, {**headers, "webhook-id": "msg_other"}, body, tolerance_s=float("inf"))
    assert not is_genuine("whsec_" + "A" * 44, headers, body, tolerance_s=float("inf"))
    assert not is_genuine(secret, headers, body), "the clock of this test is far from the time now"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the Standard Webhooks specification comes out to the byte."""
    key = signing_key(Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    signed = webhook.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", ["short", "whsec_short", "whsec_!!!!", "x" * 23])
def test_a_weak_secret_is_refused(text: str) -> None:
    """Under 24 bytes, or no base64 behind whsec_: refused, without telling it."""
    with pytest.raises(ValueError, match=r"24 bytes|base64") as caught:
        signing_key(Secret(text))
    assert text not in str(caught.value)


async def test_what_is_not_taken_is_sent_again_for_a_day(place: VaultPlace) -> None:
    """Errors, redirects and silence are tried again after growing waits, with the same id, and dropped after a day."""
    clock = Clock()
    outcomes: list[tuple[str, str]] = []
    async with receiving(500, 302, 404) as receiver, place.opened(clock=clock) as vault:
        await _tell(vault, clock)
        sender = _sender(vault, receiver.url, clock, outcomes)
        waits = []
        while len(receiver.got) < 4:
            if not await sender.send_one():
                clock.now += 1
            elif receiver.statuses or len(receiver.got) < 4:
                waits.append(clock.now - NOW)
        assert [(outcome, fault) for outcome, fault in outcomes] == [
            ("failed", "status 500"),
            ("failed", "status 302"),
            ("failed", "status 404"),
            ("delivered", ""),
        ]
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert waits[0] == 0
        assert 5 <= waits[1] <= 7
        assert 20 <= waits[2] <= 26
    outcomes.clear()
    async with place.opened(clock=clock) as vault:
        await _tell(vault, clock)
        begun = clock.now
        nobody = _sender(vault, "http://127.0.0.1:1/hook", clock, outcomes)
        while outcomes.count(("dropped", "ClientConnectorError")) == 0:
            if not await nobody.send_one():
                clock.now += 300
        assert DAY - 2 * 3600 < clock.now - begun <= DAY
        assert 25 <= len(outcomes) <= 35
        async with vault.store.snapshot() as reading:
            assert await notices.waiting(reading) == 0


async def test_one_process_at_a_time_sends_a_notice(place: VaultPlace) -> None:
    """Eight senders over two openings of the vault deliver thirty notices, each exactly once (R148)."""
    clock = Clock()
    async with receiving() as receiver, place.opened(clock=clock) as one, place.opened(clock=clock) as two:
        for at in range(30):
            await _tell(one, clock, number=at)

        async def work(vault: Vault) -> None:
            sender = _sender(vault, receiver.url, clock)
            while await sender.send_one():
                pass

        await asyncio.gather(*(work(vault) for vault in (one, two) for _ in range(4)))
        assert sorted(told["data"]["number"] for told in receiver.documents) == list(range(30))


async def test_a_sender_that_died_lets_go(place: VaultPlace) -> None:
    """A notice claimed by a process that ended is sent by another a minute later; nothing is lost by a restart."""
    clock = Clock()
    async with receiving() as receiver:
        async with place.opened(clock=clock) as vault:
            await _tell(vault, clock)
            async with vault.store.transaction() as transaction:
                assert await notices.claim(transaction, clock()) is not None
        async with place.opened(clock=clock) as vault:
            sender = _sender(vault, receiver.url, clock)
            assert not await sender.send_one()
            clock.now += notices.CLAIM_S
            assert await sender.send_one()
        assert len(receiver.got) == 1


async def test_a_clock_that_went_back_delays_nothing(place: VaultPlace) -> None:
    """A next try noted under a clock that was a year ahead is due at once."""
    clock = Clock(NOW + 365 * DAY)
    async with receiving() as receiver, place.opened(clock=clock) as vault:
        await _tell(vault, clock)
        clock.now = NOW
        assert await _sender(vault, receiver.url, clock).send_one()


async def test_the_outbox_does_not_grow_where_nobody_sends(place: VaultPlace) -> None:
    """Without a webhook a notice is forgotten after a day; a change that is rolled back tells nothing."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await _tell(vault, clock)
        clock.now += DAY + 1
        await _tell(vault, clock)
        with contextlib.suppress(ZeroDivisionError):
            async with vault.store.transaction() as transaction:
                await notices.add(transaction, clock(), "connection.recovered", {})
                raise ZeroDivisionError
        async with vault.store.snapshot() as reading:
            assert await notices.waiting(reading) == 1
        with pytest.raises(ValueError, match="no event"):
            await _tell(vault, clock, "connection.made_up")


async def test_a_failing_store_ends_no_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be read for a while costs the sender a wait, not its life (R150)."""
    clock = Clock()
    monkeypatch.setattr(webhook, "POLL_S", 0.01)
    async with receiving() as receiver, SqlitePlace(tmp_path / "d").opened(clock=clock) as vault:
        await _tell(vault, clock)
        sender = _sender(vault, receiver.url, clock)
        asked, failing, tried = sender.send_one, True, asyncio.Event()

        async def send_one() -> bool:
            tried.set()
            if failing:
                raise StoreError("the disk reports an error", reason="io")
            return await asked()

        monkeypatch.setattr(sender, "send_one", send_one)
        running = asyncio.create_task(sender.run())
        await tried.wait()
        failing = False
        async with asyncio.timeout(10):
            await receiver.came.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# --- warnings -----------------------------------------------------------------------------------------


async def _ending(vault: Vault, name: str, days: float) -> None:
    ends = vault._clock() + days * DAY
    await vault.save_connection(
        "slack", name, Tokens(Secret("a"), Secret("r"), NOW + 10**9, refresh_expires_at=ends)
    )


async def _told(vault: Vault) -> list[dict[str, Any]]:
    async with vault.store.snapshot() as reading:
        rows = await reading.fetch("SELECT body FROM notices ORDER BY at, notice_id")
    return [json.loads(row["body"]) for row in rows]


async def test_refresh_tokens_that_end_are_told_twice_ahead(place: VaultPlace) -> None:
    """14 and 3 days before its end a refresh token is told of, once each whoever looks; renewed ones are not."""
    clock = Clock()
    async with place.opened(clock=clock) as vault, place.opened(clock=clock) as other:
        await _ending(vault, "soon", 20)
        await _ending(vault, "late", 60)
        await vault.save_connection("slack", "never", Tokens(Secret("a"), Secret("r"), None))
        counts = []
        for _ in range(19):
            counts.append(sum([await expiring.warn(one, clock()) for one in (vault, other)]))
            clock.now += DAY
        assert counts == [0] * 6 + [1] + [0] * 10 + [1, 0]
        rows = [row for row in await vault.audit() if row.action == "connection.refresh_expiring"]
        assert [(row.subject, row.detail["days_left"]) for row in rows] == [
            ("slack@soon", 3),
            ("slack@soon", 14),
        ]
        (left,) = await _told(vault)
        assert left["data"]["days_left"] == 3
        assert left["data"]["remedy"] == "connector-proxy connect slack --connection soon"
        await _ending(vault, "soon", 2)
        assert await expiring.warn(vault, clock()) == 1, "a new grant that ends soon is news again"


async def test_a_copy_is_told_once_and_warns_of_nothing_else(place: VaultPlace, tmp_path: Path) -> None:
    """A server on a copy tells that, once; the original's endings are the original's to tell."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await _ending(vault, "soon", 2)
    async with place.copied(tmp_path / "clone").opened(clock=clock) as copy:
        assert [await expiring.warn(copy, clock()) for _ in range(3)] == [1, 0, 0]
        assert [told["type"] for told in await _told(copy)] == ["vault.copy_found"]


async def test_a_connection_that_is_connected_again_is_told(tmp_path: Path) -> None:
    """Who was told that a person is needed is told when one has come."""
    place = SqlitePlace(tmp_path / "d")
    async with place.opened() as vault:
        await vault.save_connection("slack", "work", Tokens(Secret("a")))
        place.run("UPDATE connections SET state = 'reauthorization_required', cause = 'invalid_grant'")
        await vault.save_connection("slack", "work", Tokens(Secret("b")))
        assert [(told["type"], told["data"]["connection"]["name"]) for told in await _told(vault)] == [
            ("connection.recovered", "work")
        ]


def test_days_left_are_told_when_they_are_few() -> None:
    """Nothing for unknown or far ends, whole days otherwise, 0 when it is over."""
    found = [
        expiring.days_left(at, NOW) for at in (None, NOW + 20 * DAY, NOW + 13.5 * DAY, NOW + 60, NOW - 60)
    ]
    assert found == [None, None, 13, 0, 0]
