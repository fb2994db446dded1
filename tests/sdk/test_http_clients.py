"""httpx with a ``base_url``: a client that knows no service."""

from collections.abc import Callable

import pytest
from scene import HTTPX, Run, Sdk

Running = Callable[[Sdk], Run]

WHOAMI = {"slack": "user_id", "calendar": "id", "notion": "id", "github": "login"}
ANSWERS = {"slack": "W12345678", "calendar": "grace@example.com", "notion": "bot-1", "github": "octocat"}
PRIMARY = "www.googleapis.com/calendar/v3/calendars/primary"
LIST = "www.googleapis.com/calendar/v3/users/me/calendarList"


@pytest.mark.parametrize("service", ANSWERS)
@pytest.mark.parametrize("style", ["base", "origin"])
def test_all_services_in_both_spellings(service: str, style: str, run: Running) -> None:
    """Each service answers under its API base and under its origin (R26)."""
    assert run(HTTPX).value(f"{service} {style}")[WHOAMI[service]] == ANSWERS[service]


def test_reads_and_writes(run: Running) -> None:
    """A write, a 204, a HEAD, a gzipped body as a stream, a 429 with its Retry-After, a 404 (R43, R50, R51, R65)."""
    done = run(HTTPX)
    assert done.value("write")["summary"] == "Höhe"
    assert done.value("delete") == 204
    assert done.value("head") == 200
    assert '"summary": "Übersicht"' in done.value("streamed")
    limited = done.error("limited")
    assert (limited["status"], limited["fields"]["retry-after"]) == (429, "1")
    assert limited["body"]["error"]["message"] == "Rate Limit Exceeded"
    assert done.value("limited again")["items"]
    assert done.error("missing")["body"]["error"]["errors"][0]["reason"] == "notFound"
    assert done.value("async")["id"] == "bot-1"


def test_what_arrives(run: Running) -> None:
    """Services see these calls and none of those that were refused."""
    assert run(HTTPX).calls() == [
        *["GET slack.com/api/auth.test"] * 2,
        *[f"GET {PRIMARY}"] * 2,
        *["GET api.notion.com/v1/users/me"] * 2,
        *["GET api.github.com/user"] * 2,
        f"POST {PRIMARY}/events",
        f"DELETE {PRIMARY}/events/event0",
        f"HEAD {PRIMARY}",
        f"GET {PRIMARY}",
        *[f"GET {LIST}"] * 2,
        "GET www.googleapis.com/calendar/v3/calendars/none",
        *["GET api.notion.com/v1/users/me"] * 5,  # async, three places of the key, the key that may only look
    ]


@pytest.mark.parametrize("step", ["basic", "basic user", "x-api-key", "permitted"])
def test_places_of_the_key(step: str, run: Running) -> None:
    """The key is taken as password, as user name, in X-Api-Key and as Bearer (R31)."""
    assert run(HTTPX).value(step)["id"] == "bot-1"


@pytest.mark.parametrize(
    ("step", "status", "code", "member"),
    [
        ("refused", 403, "not_permitted", "proxy_code"),  # in Notion's shape
        ("stranger", 401, "invalid_key", "code"),
        ("keyless", 401, "invalid_key", "code"),
        ("two keys", 400, "ambiguous_key", "code"),
        ("unconnected", 424, "not_connected", "code"),
    ],
)
def test_refusals(step: str, status: int, code: str, member: str, run: Running) -> None:
    """Each refusal has its status, its code, and a Proxy-Status that says who spoke (R43, R85, R91)."""
    error = run(HTTPX).error(step)
    assert (error["type"], error["status"]) == ("HTTPStatusError", status)
    assert error["body"][member] == code
    assert error["fields"]["proxy-status"].startswith("connector-proxy; error=")
