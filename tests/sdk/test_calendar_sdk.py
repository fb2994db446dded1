"""Google's own client for Python, on Calendar."""

from collections.abc import Callable

import pytest
from scene import CALENDAR, Run, Sdk

Running = Callable[[Sdk], Run]

STYLES = ("base", "origin", "document")
PRIMARY = "www.googleapis.com/calendar/v3/calendars/primary"
LIST = "www.googleapis.com/calendar/v3/users/me/calendarList"
ONCE = [
    f"GET {PRIMARY}?alt=json",
    f"GET {PRIMARY}/events?maxResults=2&alt=json",
    f"GET {PRIMARY}/events?maxResults=2&alt=json&pageToken=EgkKB2V2ZW50LTI%3D",
    f"POST {PRIMARY}/events?alt=json",
    f"DELETE {PRIMARY}/events/event0",
    f"GET {PRIMARY}/events/none?alt=json",
]


@pytest.mark.parametrize("style", STYLES)
def test_reads_and_writes(style: str, run: Running) -> None:
    """Under the API base, the origin and a document's root: a gzipped read, pages, a write, a 204 (R43, R50, R51)."""
    done = run(CALENDAR)
    assert done.value(f"{style} read")["summary"] == "Übersicht"
    assert done.value(f"{style} pages") == ["event0", "event1", "event2"]
    assert done.value(f"{style} write")["summary"] == "Über alles & mehr"
    assert done.value(f"{style} write")["start"] == {"dateTime": "2026-11-22T09:00:00+01:00"}
    assert done.value(f"{style} delete") == ""


def test_all_spellings_arrive_alike(run: Running) -> None:
    """Google sees the same targets from all three, ``?key=`` is gone, refused calls never came (R24, R26)."""
    keyed = permitted = f"GET {PRIMARY}?alt=json"
    assert run(CALENDAR).calls() == [*ONCE * 3, *[f"GET {LIST}?alt=json"] * 2, keyed, permitted]


def test_a_limited_call_is_repeated(run: Running) -> None:
    """A 429 reaches the client as such, which repeats the call by itself (R65)."""
    assert run(CALENDAR).value("limited")["items"] == [{"id": "grace@example.com", "primary": True}]


@pytest.mark.parametrize("style", STYLES)
def test_google_errors_pass(style: str, run: Running) -> None:
    """An error of the service is raised as without the proxy (R43)."""
    error = run(CALENDAR).error(f"{style} missing")
    assert (error["type"], error["status"], error["reason"]) == ("HttpError", 404, "Not Found")


def test_a_developer_key(run: Running) -> None:
    """A proxy key given as ``developerKey`` travels in the query, is taken there and replaced (R31)."""
    assert run(CALENDAR).value("developer key")["summary"] == "Übersicht"


def test_a_key_that_may_only_look(run: Running) -> None:
    """A permit for GET lets reads pass; a DELETE raises HttpError with our sentence as its reason (R85)."""
    done = run(CALENDAR)
    assert done.value("permitted")["id"] == "grace@example.com"
    error = done.error("refused")
    assert (error["type"], error["status"]) == ("HttpError", 403)
    assert error["reason"] == "the key has no permit for this call"


def test_not_connected(run: Running) -> None:
    """A service without an account raises HttpError that says what to do."""
    error = run(CALENDAR).error("unconnected")
    assert (error["type"], error["status"]) == ("HttpError", 424)
    assert "connector-proxy connect googledrive" in error["reason"]


def test_a_strange_key(run: Running) -> None:
    """A 401 makes google-auth say that it cannot refresh, as it would of Google; the challenge is readable (R85)."""
    assert run(CALENDAR).error("stranger")["type"] == "RefreshError"
