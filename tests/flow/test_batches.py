"""Batches over sockets: shipped services before a TLS upstream; every part is judged before anything leaves."""

import json
from collections.abc import Iterator

import pytest
from support import nested, raw, strict
from support.shipped import World, second_key, served
from support.upstream import answer, chunk

pytestmark = pytest.mark.traced

HOSTS = ("www.googleapis.com", "graph.microsoft.com", "acme.my.salesforce.com")
TOKENS = {"googlecalendar": "ya29.real-google-0123456789", "outlook": "EwB_real-graph-0123456789"}
HOST = "proxy.example"
BASE = "http://" + HOST
GET = b"GET /googlecalendar/calendar/v3/calendars/primary HTTP/1.1\nHost: proxy.example\nAuthorization: Bearer %b\n\n"
MIXED = nested.MIXED.decode()
BATCH = "/outlook/v1.0/$batch"


class Batches(World):
    """A proxy before the upstream; the second key may read one calendar and one's own profile."""

    async def google(self, *parts: bytes, **more: object) -> strict.Message:
        body = nested.requests(*parts)
        return await self.post("/googlecalendar/batch/calendar/v3", body, MIXED, **more)  # type: ignore[arg-type]  # passed on

    async def graph(
        self, *urls: str, key: str | None = "", answering: bytes = b"", **members: object
    ) -> strict.Message:
        return await self.post(BATCH, nested.objects(*urls, **members), key=key, answering=answering)


@pytest.fixture(scope="module")
def world(runner, authority, tmp_path_factory) -> Iterator[Batches]:
    narrow, table = second_key("googlecalendar:GET:/calendar/v3/calendars/*", "outlook:GET:/v1.0/me")
    salesforce = {
        "kind": "static",
        "token": {"env": "SALESFORCE"},
        "connection_config": {"instance_url": "https://acme.my.salesforce.com"},
    }
    with served(
        runner,
        authority,
        tmp_path_factory.mktemp("batches"),
        HOSTS,
        tokens=TOKENS,
        settings={"keys.narrow": table, "sources.salesforce": salesforce},
        environment={"SALESFORCE": "00D_real-salesforce-0123456789"},
    ) as (upstream, proxy):
        yield Batches(upstream, proxy, narrow)


def code(message: strict.Message) -> str:
    told = json.loads(message.body)
    return str(told[0]["errorCode"] if isinstance(told, list) else told["code"])


async def test_a_google_batch_arrives_as_google_wants_it(world: Batches) -> None:
    """Parts lose prefix and key, the batch gets the token once, and its answer is asked for without a coding."""
    part = GET % world.proxy.key.encode()
    told = await world.google(part, part, Accept_Encoding="gzip")
    assert told.status == 200
    arrived = world.arrived()
    assert (arrived.target, arrived.value("host")) == (b"/batch/calendar/v3", b"www.googleapis.com")
    assert arrived.values("authorization") == [b"Bearer " + TOKENS["googlecalendar"].encode()]
    assert arrived.values("accept-encoding") == [b"identity"]
    own = b"GET /calendar/v3/calendars/primary HTTP/1.1\nHost: www.googleapis.com\n\n"
    assert arrived.body == nested.requests(own, own)
    assert TOKENS["googlecalendar"].encode() not in arrived.body


async def test_a_key_that_stands_in_the_parts_only_counts(world: Batches) -> None:
    """The field in the parts is a key place that the file declares; without one there is none."""
    key = world.proxy.key.encode()
    assert (await world.google(GET % key, GET % key, key=None)).status == 200
    assert world.arrived().values("authorization") == [b"Bearer " + TOKENS["googlecalendar"].encode()]
    for part in (GET % b"other", b"GET /x HTTP/1.1\n\n"):
        assert code(await world.google(part, key=None)) == "invalid_key"
    assert code(await world.google(GET % key, GET % b"other", key=None)) == "ambiguous_key"
    assert world.upstream.peers == []


async def test_one_part_without_permit_refuses_the_batch(world: Batches) -> None:
    """Nothing of a batch leaves when one part may not go; the answer names the part (R85)."""
    good, bad = GET % world.second.encode(), b"POST /calendar/v3/calendars/primary/events HTTP/1.1\n\n{}"
    assert (await world.google(good, key=world.second)).status == 200
    told = await world.google(good, bad, key=world.second)
    assert (told.status, code(told)) == (403, "not_permitted")
    assert "part 2 of the batch" in json.loads(told.body)["detail"]
    assert world.upstream.peers == []
    assert (await world.graph("/me", key=world.second)).status == 200
    assert (await world.graph("/me", "/users", key=world.second)).status == 403
    assert world.upstream.peers == []


async def test_a_graph_batch_arrives_relative_to_its_version(world: Batches) -> None:
    """Absolute addresses of the proxy become what Graph documents, and the parts lose their credentials."""
    fields = {"Authorization": f"Bearer {world.proxy.key}", "Accept": "application/json"}
    told = await world.graph(BASE + "/outlook/v1.0/me", "/me/messages", headers=fields)
    assert told.status == 200
    arrived = world.arrived()
    assert (arrived.target, arrived.value("host")) == (b"/v1.0/$batch", b"graph.microsoft.com")
    sent = json.loads(arrived.body)["requests"]
    assert [one["url"] for one in sent] == ["/me", "/me/messages"]
    assert [one["headers"] for one in sent] == [{"Accept": "application/json"}] * 2


async def test_addresses_in_answers_inside_an_answer(world: Batches) -> None:
    """Google's Location fields and Graph's links and Location members lead back through the proxy; bodies stay."""
    place = b"https://www.googleapis.com/calendar/v3/x"
    head = b"HTTP/1.1 201 Created\nLocation: %b\nContent-Length: %d\n\n%b"
    body = nested.requests(head % (place, len(place), place), b"HTTP/1.1 204 No Content\n\n")
    media = (b"Content-Type", b"multipart/mixed; boundary=" + b"batch_1")
    body = body.replace(nested.BOUNDARY, b"batch_1")
    start = answer(200, b"", media, (b"Transfer-Encoding", b"chunked"), length=False)
    cut = body.index(b"Location") + 3
    chunks = b"".join(chunk(piece) for piece in (body[:cut], body[cut:], b""))
    told = await world.google(GET % world.proxy.key.encode(), answering=start + chunks)
    mapped = b"http://proxy.example/googlecalendar/calendar/v3/x"
    assert told.body == body.replace(b"Location: " + place, b"Location: " + mapped)
    link = "https://graph.microsoft.com/v1.0/me/messages?$skip=1"
    responses = [
        {"id": "1", "status": 200, "headers": {}, "body": {"@odata.nextLink": link, "text": link}},
        {"id": "2", "status": 302, "headers": {"Location": link}},
    ]
    document = json.dumps({"responses": responses}).encode()
    told = await world.graph("/me", answering=answer(200, document, (b"Content-Type", b"application/json")))
    one, two = json.loads(told.body)["responses"]
    ours = BASE + "/outlook/v1.0/me/messages?$skip=1"
    assert (one["body"]["@odata.nextLink"], one["body"]["text"], two["headers"]["Location"]) == (
        ours,
        link,
        ours,
    )


@pytest.mark.parametrize(
    ("target", "media"),
    [
        ("/googlecalendar/batch/calendar/v3/", MIXED),
        ("/googlecalendar/batch/calendar%2Fv3", MIXED),
        ("/outlook/v1.0/%24batch", "application/json"),
        ("/outlook/v1.0/me/$batch", "application/json"),
        ("/outlook/v1.0/$BATCH", "application/json"),
        ("/salesforce/services/data/v59.0/composite", "application/json"),
        ("/salesforce/services/data/v59.0/composite/batch", "application/json"),
    ],
)
async def test_other_spellings_and_other_batches_stay_closed(world: Batches, target: str, media: str) -> None:
    """Only the declared path, to the byte, is read as a batch; everything like one is closed to every key."""
    body = nested.objects("/me") if media != MIXED else nested.requests(b"GET /calendar/v3/x HTTP/1.1\n\n")
    told = await world.post(target, body, media)
    assert (told.status, code(told)) in {
        (403, "credential_path"),
        (404, "unknown_service"),
        (400, "ambiguous_target"),
    }
    assert world.upstream.peers == []


async def test_what_is_no_batch_does_not_leave(world: Batches) -> None:
    """A malformed one is a 400, a large one a 413, and no method but POST is taken."""
    assert code(await world.post(BATCH, b"{}")) == "bad_request"
    assert code(await world.post(BATCH, b" " * 4_200_000)) == "body_too_large"
    for method, body in (("GET", None), ("PUT", b"{}"), ("POST", None)):
        told = await raw.call(world.proxy.address, method, BATCH, key=world.proxy.key, body=body)
        assert told.status in {400, 403}
    assert world.upstream.peers == []
