"""SDKs that go on from an address inside an answer: pages, objects, uploads. All of it stays inside the proxy."""

from collections.abc import Callable

import pytest
from scene import (
    CALENDAR_LINKS,
    GITHUB_LINKS_NODE,
    GITHUB_LINKS_PYTHON,
    GRAPH_LINKS,
    SLACK_UPLOAD_NODE,
    SLACK_UPLOAD_PYTHON,
    Run,
    Sdk,
)

Running = Callable[[Sdk], Run]

GITHUB = ("origin", "enterprise")
REPOSITORY = "api.github.com/repos/octocat/Hello-World"
UPLOAD = "POST files.slack.com/upload/v1/CwABAAAA"


@pytest.mark.parametrize("style", GITHUB)
def test_pygithub_goes_from_object_to_object(style: str, run: Running) -> None:
    """PyGithub, which refuses addresses that are not below its base: pages, changes, comments."""
    done = run(GITHUB_LINKS_PYTHON)
    assert done.value(f"{style} pages") == [1, 2, 3]
    assert done.value(f"{style} write") is None
    assert done.value(f"{style} comments") == ["see https://api.github.com/user"]


def test_what_pygithub_follows_arrives(run: Running) -> None:
    """Both spellings of the base URL lead to the same calls, an asset to the host that the release names."""
    done = run(GITHUB_LINKS_PYTHON)
    assert done.value("asset") == "a b.zip"
    calls = done.calls()
    upload = "POST uploads.github.com/repos/octocat/Hello-World/releases/1/assets?label=&name=a+b.zip"
    once, again = calls[: calls.index(upload) - 1], calls[calls.index(upload) + 1 :]
    assert once == again
    assert {f"PATCH {REPOSITORY}/issues/1", f"GET {REPOSITORY}/issues/1/comments"} <= set(once)
    assert [call for call in once if call.startswith("GET api.github.com/repositories/1296269/issues?")]


@pytest.mark.node
@pytest.mark.parametrize("style", GITHUB)
def test_octokit_follows_links(style: str, run: Running) -> None:
    """Pages come by Link, and an asset goes where the release says."""
    done = run(GITHUB_LINKS_NODE)
    assert done.value(f"{style} pages") == [1, 2, 3]
    assert done.value(f"{style} asset") == "a b.zip"
    assets = "POST uploads.github.com/repos/octocat/Hello-World/releases/1/assets?"
    assert [call for call in done.calls() if call.startswith(assets)]


@pytest.mark.parametrize(
    ("sdk", "steps"),
    [
        pytest.param(SLACK_UPLOAD_PYTHON, ("upload", "async upload"), id="python"),
        pytest.param(SLACK_UPLOAD_NODE, ("upload",), id="node", marks=pytest.mark.node),
    ],
)
@pytest.mark.parametrize("style", ["base", "origin"])
def test_slack_uploads(sdk: Sdk, steps: tuple[str, ...], style: str, run: Running) -> None:
    """files_upload_v2: the bytes go to the address of the answer, with no credential of anybody."""
    done = run(sdk)
    for step in steps:
        assert [file["id"] for file in done.value(f"{style} {step}")] == ["F8"]
    assert done.calls().count(UPLOAD) == 2 * len(steps)
    for arrival in done.arrived:
        if arrival.call == UPLOAD:
            assert "Grüße\n".encode() in arrival.request.body


@pytest.mark.parametrize("style", ["base", "version"])
def test_graph_pages(style: str, run: Running) -> None:
    """Pages of Microsoft Graph by ``@odata.nextLink``, whose query arrives byte for byte."""
    done = run(GRAPH_LINKS)
    assert done.value(f"{style} pages") == ["one", "two", "three"]
    link = "GET graph.microsoft.com/v1.0/me/messages?$top=2&$select=subject&$skiptoken=X%27a%2Fb"
    assert done.calls().count(link) == 4  # and those of the batches


def test_google_builds_from_the_document(run: Running) -> None:
    """With a discovery document that comes through the proxy, build() calls the proxy and nothing else."""
    done = run(CALENDAR_LINKS)
    assert done.value("read")["summary"] == "Übersicht"
    assert done.value("write")["summary"] == "Über alles & mehr"
    calls = [call.partition("?")[0] for call in done.calls()]
    assert calls[:3] == [
        "GET www.googleapis.com/discovery/v1/apis/calendar/v3/rest",
        "GET www.googleapis.com/calendar/v3/calendars/primary",
        "POST www.googleapis.com/calendar/v3/calendars/primary/events",
    ]


def test_google_batches(run: Running) -> None:
    """BatchHttpRequest: folded ids, long addresses, and errors of single parts; a part without permit refuses all."""
    done = run(CALENDAR_LINKS)
    assert done.value("batch") == ["Übersicht", "Über alles & mehr", "events", "404"]
    assert done.error("refused")["type"] == "HttpError"
    assert "part 2 of the batch: the key has no permit" in done.error("refused")["text"]
    calls = [call.partition("?")[0] for call in done.in_batches]
    calendar = "www.googleapis.com/calendar/v3/calendars"
    reads = [f"GET {calendar}/primary", f"POST {calendar}/primary/events", f"GET {calendar}/primary/events"]
    assert calls == [*reads, f"GET {calendar}/missing"]
    assert done.calls().count("POST www.googleapis.com/batch/calendar/v3") == 1


@pytest.mark.parametrize("style", ["base", "version"])
def test_graph_batches(style: str, run: Running) -> None:
    """A batch as msgraph-core writes it: absolute addresses of the proxy in it, links of its answers followed."""
    done = run(GRAPH_LINKS)
    assert done.value(f"{style} batch") == [200, 404, "three"]
    calls = ["GET graph.microsoft.com/v1.0/me/messages?$top=2", "GET graph.microsoft.com/v1.0/me/missing"]
    assert list(done.in_batches) == calls * 2
