"""Addresses of the proxy in requests' JSON, over sockets: shipped services before a TLS upstream."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from support import raw
from support.shipped import World, second_key, served
from support.upstream import answer, replying

HOSTS = ("graph.microsoft.com", "slack.com", "files.slack.com", "api.notion.com")
TOKENS = {name: f"real-token-of-{name}-0123456789" for name in ("outlook", "slack", "notion")}
BASE = "http://proxy.example"
REF = "/outlook/v1.0/groups/1/members/$ref"
OURS, OWN = BASE + "/outlook/v1.0/users/%C3%A9?a=b", "https://graph.microsoft.com/v1.0/users/%C3%A9?a=b"
JSON = (b"Content-Type", b"application/json")


@pytest.fixture(scope="module")
def world(runner, authority, tmp_path_factory) -> Iterator[World]:
    other, table = second_key("*")
    folder, settings = tmp_path_factory.mktemp("sent_back"), {"keys.other": table}
    with served(runner, authority, folder, HOSTS, tokens=TOKENS, settings=settings) as (upstream, proxy):
        yield World(upstream, proxy, other)


async def test_a_reference_arrives_as_the_services_own(world: World) -> None:
    """A declared member becomes Graph's address; length and blanks are right, everything else keeps its bytes."""
    body = json.dumps({"@odata.id": OURS, "n": 1.0, "text": OURS}, indent=1).encode()
    told = await world.post(REF, body)
    assert told.status == 200
    arrived = world.arrived()
    assert arrived.body == body.replace(OURS.encode(), OWN.encode(), 1)
    assert arrived.value("content-length") == b"%d" % len(arrived.body)
    assert arrived.value("authorization") == b"Bearer " + TOKENS["outlook"].encode()


async def test_a_body_in_pieces_is_one_body(world: World) -> None:
    """A chunked body, cut inside of the address, is put together, and sent with its length; 100 Continue comes first."""
    await world.upstream.fresh()
    body = json.dumps({"members@odata.bind": [OURS, OURS]}).encode()
    head = raw.request(
        "PATCH",
        "/outlook/groups/1",
        key=world.proxy.key,
        fields=[
            ("Content-Type", "application/json; charset=utf-8"),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
        ],
    )
    async with raw.calling(world.proxy.address) as caller:
        await caller.send(head)
        assert await caller.more()
        assert caller.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        caller.received.clear()
        for at in range(0, len(body), 9):
            await caller.send(b"%x\r\n%b\r\n" % (len(body[at : at + 9]), body[at : at + 9]))
            await asyncio.sleep(0)
        await caller.send(b"0\r\n\r\n")
        assert (await caller.answer()).status == 200
    arrived = world.arrived()
    assert json.loads(arrived.body) == {"members@odata.bind": [OWN, OWN]}
    assert arrived.value("content-length") == b"%d" % len(arrived.body)


@pytest.mark.parametrize(
    ("target", "body", "media", "coding"),
    [
        (REF, b' {"@odata.id" : "https:\\/\\/graph.microsoft.com/v1.0/\\u00fc", "n":1.0e2}\n', "application/json", ""),
        (REF, b'{"@odata.id":"%b"}' % OURS.encode(), "text/plain", ""),
        (REF, gzip.compress(b'{"@odata.id":"%b"}' % OURS.encode(), mtime=0), "application/json", "gzip"),
        (REF, b'{"@odata.id":"%b' % OURS.encode(), "application/json", ""),
        ("/outlook/v1.0/me/messages", b'{"@odata.id":"%b"}' % OURS.encode(), "application/json", ""),
        ("/notion/v1/pages", b'{"@odata.id":"%b"}' % OURS.encode(), "application/json", ""),
        (REF, b'{"x":"' + b"y" * 300_000 + b'","@odata.id":"%b"}' % OURS.encode(), "application/json", ""),
    ],
    ids=["none of ours", "a text", "coded", "not JSON", "another path", "another service", "too long to hold"],
)  # fmt: skip
async def test_bodies_that_pass(world: World, target: str, body: bytes, media: str, coding: str) -> None:
    """Without an address of the proxy, and wherever none is looked for, a body arrives byte for byte."""
    fields = {"Content_Encoding": coding} if coding else {}
    assert (await world.post(target, body, media=media, **fields)).status == 200
    assert world.arrived().body == body


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (BASE + "/slack/api.test", "not one of outlook"),
        (BASE + "/outlook@other/v1.0/me", "another connection"),
        (BASE + "/outlook/v1.0/../x", "dot segment"),
        (BASE + "/outlook/~~1.2.3/outlook.office.com/api/x", "not one that the proxy gave out"),
    ],
)
async def test_what_leads_elsewhere_does_not_leave(world: World, url: str, why: str) -> None:
    """An address of another service or connection, or a made-up one, is a 4xx that says so; nothing is sent."""
    told = await world.post(REF, json.dumps({"@odata.id": url}).encode())
    assert told.status in {400, 403}
    assert why in raw.document(told)["detail"]
    batch = {"requests": [{"id": "1", "method": "POST", "url": "/groups/1/members/$ref", "body": {}}]}
    batch["requests"][0]["body"] = {"@odata.id": url}  # type: ignore[assignment]  # as JSON goes
    told = await world.post("/outlook/v1.0/$batch", json.dumps(batch).encode())
    assert told.status in {400, 403}
    assert "part 1 of the batch" in raw.document(told)["detail"]
    assert world.upstream.peers == []


async def test_a_key_in_such_a_body_does_not_leave(world: World) -> None:
    """A body that was read is looked through for the key, too."""
    body = json.dumps({"@odata.id": OURS, "note": world.proxy.key}).encode()
    assert (await world.post(REF, body)).status == 400
    assert world.upstream.peers == []


async def test_a_capability_address_comes_back_to_its_own_key_only(world: World) -> None:
    """What was given to one key becomes the presigned address again in its bodies, and in nobody else's."""
    upload = "https://files.slack.com/upload/v1/CwAB?x=%2F"
    private = "https://files.slack.com/files-pri/T1-F1/a.png"
    document = json.dumps({"ok": True, "upload_url": upload, "url_private": private}).encode()
    await world.upstream.fresh(replying(answer(200, document, JSON)))
    told = json.loads(
        (await raw.call(world.proxy.address, "POST", "/slack/files.x", key=world.proxy.key, body=b"")).body
    )
    ours = told["upload_url"]
    assert "/~~" in ours
    assert urlsplit(told["url_private"]).path.endswith("/files-pri/T1-F1/a.png")
    blocks = {"blocks": [{"slack_file": {"url": one}} for one in (ours, told["url_private"])]}
    assert (await world.post("/slack/chat.postMessage", json.dumps(blocks).encode())).status == 200
    sent = json.loads(world.arrived().body)["blocks"]
    assert [one["slack_file"]["url"] for one in sent] == [upload, private]
    refused = await world.post("/slack/chat.postMessage", json.dumps(blocks).encode(), key=world.second)
    assert world.upstream.peers == []
    assert b"given to another key" in refused.body
