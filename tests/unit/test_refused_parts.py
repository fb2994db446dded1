"""A token that is refused inside of an answer to a batch: the account's is renewed, and nothing is done twice."""

import asyncio
import json

import pytest
from support import nested, raw, steps
from support.plane import KEY, Scene, credential, scene, tokens
from support.upstream import answer, chunk, replying

from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Batch, Catalog, Link
from proxy.connectors.model import Credential
from proxy.errors import ReauthorizationRequired, RequestError

SERVICES = load_catalog().services
JSON = (b"Content-Type", b"application/json; odata=x")
MIXED = (b"Content-Type", b"multipart/mixed; boundary=batch_1")
OLD, NEW = b"Bearer token-one", b"Bearer token-two"
BATCHES = {
    "json": ("application/json", nested.objects("/a", "/b")),
    "multipart": (nested.MIXED.decode(), nested.requests(b"GET /v1/a HTTP/1.1\n\n", b"GET /v1/b HTTP/1.1\n\n")),
}  # fmt: skip


def speaks(on: Scene, form: str) -> None:
    """From now on the scene's service takes batches, and has the words of one of the catalog's that does."""
    like = SERVICES["outlook" if form == "json" else "googlecalendar"]
    made = on.service(
        "svc",
        failure=like.failure,
        batch=Batch("json" if form == "json" else "multipart", frozenset({b"/v1/$batch"}), 20),
        batch_paths=steps.SpellingSet(("/v1/$batch",)),
        links=(Link("json", ("next",)),),
    )
    on.put(catalog=Catalog({"svc": made}))


async def sent(on: Scene, caller: raw.Caller, form: str) -> bytes:
    """What is told of a batch."""
    media, body = BATCHES[form]
    head = raw.request("POST", "/svc/v1/$batch", key=KEY, fields=[("Content-Type", media)], body=body)
    await caller.send(head)
    return (await caller.answer()).body


def responses(*statuses: object) -> bytes:
    return json.dumps(
        {"responses": [{"id": str(n), "status": one} for n, one in enumerate(statuses)]}
    ).encode()


def parts(*heads: bytes) -> bytes:
    about = b"Content-Type: application/http\r\nContent-ID: <response-1>\r\n\r\n"
    return b"".join(b"--batch_1\r\n%b%b\r\n\r\n" % (about, head) for head in heads) + b"--batch_1--\r\n"


REFUSED = {
    "json": (JSON, responses(200, 401)),
    "multipart": (
        MIXED,
        parts(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}", b"HTTP/1.1 401 Unauthorized\r\nA: b\r\n\r\n{}"),
    ),
}


@pytest.mark.parametrize("pieces", [1, 7, 100_000])
@pytest.mark.parametrize("form", ["json", "multipart"])
async def test_a_refused_part_renews_the_token(form: str, pieces: int) -> None:
    """The answer passes as it is, the batch is sent once, and the next call has the newer token (R63)."""
    media, body = REFUSED[form]
    told = answer(200, b"", media, (b"Transfer-Encoding", b"chunked"), length=False)
    cut = [body[at : at + pieces] for at in range(0, len(body), pieces)]
    async with scene(replying(told + b"".join(map(chunk, cut)) + chunk(b""))) as on, on.calling() as caller:
        speaks(on, form)
        on.source.newer = credential("token-two")
        first = on.source.at_hand[None]
        assert await sent(on, caller, form) == body
        await on.ask(caller)
        assert tokens(on.upstream) == [OLD, NEW]
        assert on.source.refusals == [first]


@pytest.mark.parametrize(
    ("form", "media", "body"),
    [
        ("json", JSON, responses(200, 403)),
        ("json", JSON, json.dumps({"responses": [{"status": 200, "body": {"status": 401}}]}).encode()),
        ("json", JSON, json.dumps({"status": 401, "responses": {"status": 401}}).encode()),
        ("json", JSON, responses(401)[:-1]),
        ("json", JSON, b"401"),
        ("json", (b"Content-Type", b"text/plain"), responses(401)),
        ("json", JSON, responses(401, "x" * 70_000)),
        ("multipart", MIXED, parts(b"HTTP/1.1 200 OK\r\nA: HTTP/1.1 401 \r\n\r\nHTTP/1.1 401 x\r\n\r\n")),
        ("multipart", MIXED, parts(b"HTTP/1.1 4010 x\r\n\r\n", b"HTTP/1.1 403 401\r\n\r\n")),
        ("multipart", JSON, parts(b"HTTP/1.1 401 x\r\n\r\n")),
    ],
)
async def test_what_is_no_refusal_renews_nothing(form: str, media: tuple[bytes, bytes], body: bytes) -> None:
    """Other statuses, a 401 inside of a part's body, what cannot be read, and answers too long to be looked at."""
    async with scene(replying(answer(200, body, media))) as on, on.calling() as caller:
        speaks(on, form)
        on.source.newer = credential("token-two")
        assert await sent(on, caller, form) == body
        await on.ask(caller)  # only begun when the batch is over and done with
        assert on.source.refusals == []


async def test_a_grant_that_proves_dead_is_told_with_the_next_request() -> None:
    """A renewal that fails leaves the answer as it is, and the connection open."""
    media, body = REFUSED["json"]
    async with scene(replying(answer(200, body, media))) as on, on.calling() as caller:
        speaks(on, "json")
        on.source.failure = ReauthorizationRequired("connect it again", service="svc")
        for _ in range(2):
            assert await sent(on, caller, "json") == body
        await on.ask(caller)
        assert len(on.source.refusals) == 2


async def test_the_answer_does_not_wait_for_the_renewal() -> None:
    """The caller has all of the answer while the provider is still asked for a newer token."""
    media, body = REFUSED["json"]
    async with scene(replying(answer(200, body, media))) as on, on.calling() as caller:
        speaks(on, "json")
        told = asyncio.Event()

        async def refused(_: Credential) -> Credential:
            await told.wait()
            raise RequestError("late")

        on.source.refused = refused  # type: ignore[method-assign]  # a slow provider
        assert await sent(on, caller, "json") == body
        told.set()
        assert (await on.ask(caller)).status == 200
