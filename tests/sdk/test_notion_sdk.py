"""notion-client. It adds ``/v1`` by itself: its base URL is the origin, and tests/sdk/test_http_clients.py has the other."""

import json
from collections.abc import Callable

import pytest
from scene import NOTION, Run, Sdk

Running = Callable[[Sdk], Run]


def test_reads_and_writes(run: Running) -> None:
    """A call, pages by cursor, a write in any script, a 429 that the SDK sits out, the asyncio client (R43, R65)."""
    done = run(NOTION)
    assert done.value("whoami")["name"] == "Relay ✓"
    assert done.value("pages") == ["u-1", "u-2", "fe2cc560-036c-44cd-90e8-294d5a74cebc"]
    title = done.value("write")["properties"]["Name"]["title"]
    assert title == [{"text": {"content": "Tuscan kale “cavolo”"}}]
    assert done.value("limited")["results"] == []
    assert done.value("async")["id"] == "bot-1"


def test_what_arrives(run: Running) -> None:
    """Notion sees these calls in the version and the name that the SDK chose, and no refused one (R24, R37)."""
    done = run(NOTION)
    assert done.calls() == [
        "GET api.notion.com/v1/users/me",
        "GET api.notion.com/v1/users",
        "GET api.notion.com/v1/users?start_cursor=fe2cc560-036c-44cd-90e8-294d5a74cebc",
        "POST api.notion.com/v1/pages",
        "POST api.notion.com/v1/search",
        "POST api.notion.com/v1/search",
        "GET api.notion.com/v1/pages/0",
        "GET api.notion.com/v1/users/me",
        "GET api.notion.com/v1/users/me",
    ]
    for arrival in done.arrived:
        assert arrival.request.values("notion-version") == [b"2025-09-03"]
        assert arrival.request.values("user-agent") == [b"ramnes/notion-sdk-py@3.1.0"]


def test_notion_errors_pass(run: Running) -> None:
    """An error of the service is raised as without the proxy (R43)."""
    error = run(NOTION).error("missing")
    assert (error["type"], error["status"]) == ("APIResponseError", 404)
    assert json.loads(error["body"])["code"] == "object_not_found"


@pytest.mark.parametrize(
    ("step", "status", "codes", "text"),
    [
        ("refused", 403, ("restricted_resource", "not_permitted"), "the key has no permit for this call"),
        ("credential", 403, ("restricted_resource", "credential_path"), "closed to every key"),
        ("unconnected", 424, ("unauthorized", "not_connected"), "there is no 'nobody'"),
    ],
)
def test_refusals_read_like_notion(
    step: str, status: int, codes: tuple[str, str], text: str, run: Running
) -> None:
    """The proxy's refusals are Notion's own error with one of its codes, and our sentence as its text (R85)."""
    error = run(NOTION).error(step)
    assert (error["type"], error["status"]) == ("APIResponseError", status)
    assert text in error["text"]
    body = json.loads(error["body"])
    assert (body["object"], body["status"]) == ("error", status)
    assert (body["code"], body["proxy_code"]) == codes


def test_permitted_and_strange_keys(run: Running) -> None:
    """A key that may only look does so; one that is none gets 401 (R84, R85)."""
    done = run(NOTION)
    assert done.value("permitted")["id"] == "bot-1"
    assert done.error("stranger")["status"] == 401
