"""``callApi``: requests of service keys on the same data path as all others, and truth about how far each came."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from support import upstream as script
from support.app44 import PROBE, Answer, Scene, scene

JSON = (b"Content-Type", b"application/json")


async def call(one: Scene, key: str, path: str = "/things", service: str = PROBE, **more: Any) -> Answer:
    return await one.ask(f"connectors/{service}/call", key, method="POST", body={"path": path, **more})


async def test_a_request_with_the_accounts_token(tmp_path: Path) -> None:
    """The service gets method, path, query, body and known headers with its token; nothing of the key, and no header that is not on the list (R31, R143)."""
    async with scene(tmp_path) as one:
        key = await one.key(PROBE)
        await one.connect(PROBE)
        sent = {
            "method": "POST",
            "host": "content",
            "query": {"q": ["a b", 1], "flag": True},
            "headers": {"Prefer": "x", "X-Api-Version": "9", "Cookie": "c", "X-Api-Key": "k", "Host": "evil"},
            "body": {"name": "Ada"},
        }
        answer = await call(one, key, "/things?page=2", **sent)
        told = answer.document
        assert (told["success"], told["phase"], told["status_code"]) == (True, "responded", 200)
        assert (told["credits_charged"], told["data_base64"]) == (0, None)
        seen = told["data"]
        assert (seen["method"], seen["target"]) == ("POST", "/things?page=2&q=a%20b&q=1&flag=true")
        assert json.loads(seen["body"]) == {"name": "Ada"}
        fields = {name.lower(): value for name, value in seen["fields"]}
        assert fields["host"] == f"127.0.0.1:{one.upstream.port}"
        assert (fields["prefer"], fields["x-api-version"]) == ("x", "9")
        assert not {"cookie", "x-api-key"} & fields.keys()
        # the echo shows the token as its mask: it went out, and does not come back
        (request,) = one.upstream.seen()
        assert request.value("authorization") == f"Bearer {one.token(PROBE)}".encode()
        assert one.token(PROBE) not in answer.text
        assert key.encode() not in bytes(one.upstream.peers[0].received)
        for secret in (key, one.token(PROBE)):
            assert secret not in one.text.getvalue()


async def test_an_answer_is_told_as_it_is(tmp_path: Path) -> None:
    """An upstream error is an answer too; what is no JSON or text is in base64; only known headers are shown; addresses stay the service's."""
    async with scene(tmp_path) as one:
        key = await one.key(PROBE)
        await one.connect(PROBE)

        async def answered(body: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> Any:
            await one.upstream.fresh(script.replying(script.answer(status, body, *fields)))
            return (await call(one, key)).document

        limits = (
            (b"X-RateLimit-Reset", b"7"),
            (b"Retry-After", b"3"),
            (b"Set-Cookie", b"a=b"),
            (b"Location", f"http://127.0.0.1:{one.upstream.port}/next".encode()),
        )
        told = await answered(b'{"error":"slow"}', JSON, *limits, status=429)
        assert (told["success"], told["phase"], told["status_code"]) == (False, "responded", 429)
        assert told["data"] == {"error": "slow"}
        place = f"http://127.0.0.1:{one.upstream.port}/next"
        assert told["headers"] == {"x-ratelimit-reset": "7", "retry-after": "3", "location": place}
        told = await answered(b"\x89PNG", (b"Content-Type", b"image/png"))
        assert (told["data"], told["data_base64"], told["content_type"]) == (None, "iVBORw==", "image/png")
        assert (await answered(b"hello", (b"Content-Type", b"text/plain")))["data"] == "hello"
        assert (await answered(b"", JSON, status=202))["data"] is None


@pytest.mark.parametrize(
    "body",
    [b"1e999", b"[NaN]", b"[" * 100_000 + b"]" * 100_000, b"9" * 5000, b'{"a":', b"\xff"],
    ids=["huge", "nan", "deep", "long", "cut", "not UTF-8"],
)
async def test_an_answer_that_our_json_cannot_hold(tmp_path: Path, body: bytes) -> None:
    """What a service answers after it has acted is told with its status, in base64 where it is no JSON that we could write."""
    async with scene(tmp_path) as one:
        key = await one.key(PROBE)
        await one.connect(PROBE)
        await one.upstream.fresh(script.replying(script.answer(201, body, JSON)))
        answer = await call(one, key, method="POST", body={"a": 1})
        assert answer.status == 200
        told = json.loads(answer.text, parse_constant=pytest.fail)
        assert (told["success"], told["status_code"], told["data"]) == (True, 201, None)
        assert base64.b64decode(told["data_base64"]) == body


async def test_bodies_that_are_no_call(tmp_path: Path) -> None:
    """A malformed body is 400 with a code on each call that reads one, never 500, and nothing is sent; one that is too large is 413."""
    async with scene(tmp_path) as one:
        key = await one.key("*")
        await one.connect(PROBE)
        place = f"connectors/{PROBE}/call"
        bodies = (
            b'{"path":"/a","method":["GET"]}',
            b'{"path":"/a","method":{"a":1}}',
            b'{"path":"/a","method":"POST","headers":{"Content-Type":"text/plain"},"body":"\\ud800"}',
            b'{"path":"/a","query":{"q":"\\ud800"}}',
            b'{"path":"/a","method":"POST","body":NaN}',
            b'{"path":"/a","method":"POST","body":1e999}',
            b'{"path":"/a","path":"/b"}',
            b'{"path":"/a","body":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            b'{"scopes":["\\ud800"]}',
            b'{"scopes":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            b"\xff",
            b"",
        )
        for method, target in (("POST", place), ("PUT", "external-auth/integrations/sandbox")):
            for body in bodies:
                answer = await one.ask(target, key, method=method, body=body)
                assert (answer.status, answer.code) == (400, "bad_request"), (target, body[:60])
        large = await one.ask("external-auth/integrations/sandbox", key, method="PUT", body=b" " * 65_537)
        assert (large.status, large.code) == (413, "body_too_large")
        assert one.upstream.seen() == []


async def test_how_far_a_request_came(tmp_path: Path) -> None:
    """``not_sent`` only where the service cannot have seen it; cut, silent and broken answers are told apart, and none is sent twice (R62)."""
    async with scene(tmp_path) as one:
        key = await one.key(PROBE)
        await one.connect(PROBE)

        async def came(play: script.Script) -> tuple[str, str, int]:
            await one.upstream.fresh(play)
            told = (await call(one, key, method="POST", body={"a": 1})).document
            assert told["success"] is False
            return told["phase"], told["error"]["code"], len(one.upstream.seen())

        cut = script.answer(200, b"x" * 50, JSON)[:-20]
        assert await came(script.replying(cut, then="reset")) == ("sent_unconfirmed", "upstream_protocol", 1)
        assert await came(script.replying(then="reset")) == ("sent_unconfirmed", "upstream_unreachable", 1)
        assert await came(script.replying(b"SPAM\r\n\r\n")) == ("sent_unconfirmed", "upstream_protocol", 1)
        assert await came(script.silent) == ("timed_out", "upstream_timeout", 1)
        await one.upstream.stop()
        told = (await call(one, key)).document
        assert (told["phase"], told["status_code"]) == ("not_sent", None)
        assert told["error"]["code"] == "upstream_unreachable"


async def test_permits_hold_as_on_the_data_path(tmp_path: Path) -> None:
    """R73, R85, R90: methods, paths, credential paths and connections are judged by the same code; nothing refused is sent."""
    async with scene(tmp_path) as one:
        await one.connect(PROBE)
        await one.connect(PROBE, "work")
        look, work = await one.key(f"{PROBE}:GET:/things/**"), await one.key(f"{PROBE}@work")
        for key, path, more, expected in (
            (look, "/things/1", {"method": "DELETE"}, (403, "not_permitted")),
            (look, "/other", {}, (403, "not_permitted")),
            (work, "/oauth/token", {}, (403, "credential_path")),
            (work, "/things/%2e%2e/oauth/token", {}, (400, "ambiguous_target")),
            (work, "/~~1.a.b/x", {}, (400, "bad_request")),
            (work, "things", {}, (400, "bad_request")),
            (work, "/things#a", {}, (400, "bad_request")),
            (work, "/things\r\nX: y", {}, (400, "bad_request")),
            (work, "/things", {"method": "get"}, (400, "bad_request")),
            (work, "/things", {"host": "evil.example"}, (400, "bad_request")),
            (work, "/things", {"headers": {"Prefer": "a\nb"}}, (400, "bad_request")),
            (await one.key("slack"), "/things", {}, (403, "not_permitted")),
            (await one.key(PROBE, kind="proxy"), "/things", {}, (401, "invalid_key")),
        ):
            answer = await call(one, key, path, **more)
            assert (answer.status, answer.code) == expected, (path, more)
        assert one.upstream.seen() == []
        missing = await call(one, await one.key("slack"), service="slack")
        assert (missing.status, missing.code) == (404, "NOT_FOUND")
        assert (await call(one, look, "/things/1")).document["success"] is True
        assert (await call(one, work)).document["success"] is True
        first, second = (request.value("authorization") for request in one.upstream.seen())
        assert first == f"Bearer {one.token(PROBE, 'default')}".encode()
        assert second == f"Bearer {one.token(PROBE, 'work')}".encode()


async def test_many_at_once_and_the_end(tmp_path: Path) -> None:
    """Calls do not mix, and the request log has each with key and service like any other (R41, R155)."""
    async with scene(tmp_path) as one:
        key = await one.key(PROBE)
        await one.connect(PROBE)
        answers = await asyncio.gather(*(call(one, key, f"/things/{n}") for n in range(20)))
        assert [answer.document["data"]["target"] for answer in answers] == [
            f"/things/{n}" for n in range(20)
        ]
        lines = [json.loads(line) for line in one.text.getvalue().splitlines() if line.endswith("}")]
        requests = [line for line in lines if line["event"] == "request"]
        assert len(requests) == 20
        assert {(line["key_id"], line["service"]) for line in requests} == {(key[4:12], PROBE)}
