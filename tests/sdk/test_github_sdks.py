"""GitHub's own SDK for Node, and PyGithub: calls that do not start from an address inside an answer."""

from collections.abc import Callable

import pytest
from scene import GITHUB_NODE, GITHUB_PYTHON, Run, Sdk

Running = Callable[[Sdk], Run]

SDKS = [
    pytest.param(GITHUB_PYTHON, id="python"),
    pytest.param(GITHUB_NODE, id="node", marks=pytest.mark.node),
]
STYLES = ("origin", "enterprise")
REPOSITORY = "api.github.com/repos/octocat/Hello-World"


@pytest.mark.parametrize("style", STYLES)
def test_pygithub_reads_and_writes(style: str, run: Running) -> None:
    """With the plain base URL and in the Enterprise spelling, ``/api/v3``: a call, a write, a 404 (R43)."""
    done = run(GITHUB_PYTHON)
    assert done.value(f"{style} whoami") == "octocat"
    assert done.value(f"{style} write") == 1347
    assert done.error(f"{style} missing")["type"] == "UnknownObjectException"


@pytest.mark.node
@pytest.mark.parametrize("style", STYLES)
def test_octokit_reads_and_writes(style: str, run: Running) -> None:
    """A call, pages by number, a write, a 204, a 429 whose Retry-After reaches the program, a 404 (R43, R50, R65)."""
    done = run(GITHUB_NODE)
    assert done.value(f"{style} whoami") == "octocat"
    assert done.value(f"{style} pages") == [1, 2, 3]
    assert done.value(f"{style} write") == [201, 1347, "Fehler: ä"]
    assert done.value(f"{style} star") == 204
    limited = done.error(f"{style} limited")
    assert (limited["status"], limited["fields"]["retry-after"]) == (429, "1")
    assert limited["fields"]["x-ratelimit-remaining"] == "0"
    assert done.value(f"{style} limited again") == 0
    assert (done.error(f"{style} missing")["type"], done.error(f"{style} missing")["status"]) == (
        "HttpError",
        404,
    )


def test_what_arrives_from_pygithub(run: Running) -> None:
    """GitHub sees the same calls in both spellings, and none of those that were refused (R26)."""
    once = ["GET api.github.com/user", f"POST {REPOSITORY}/issues", "GET api.github.com/repos/octocat/none"]
    basic = permitted = "GET api.github.com/user"
    assert run(GITHUB_PYTHON).calls() == [*once, *once, basic, permitted]


@pytest.mark.node
def test_what_arrives_from_octokit(run: Running) -> None:
    """GitHub sees the same calls in both spellings, and none of those that were refused (R26)."""
    once = [
        "GET api.github.com/user",
        f"GET {REPOSITORY}/issues?per_page=2&page=1",
        f"GET {REPOSITORY}/issues?per_page=2&page=2",
        f"POST {REPOSITORY}/issues",
        "PUT api.github.com/user/starred/octocat/Hello-World",
        "GET api.github.com/search/repositories?q=kale",
        "GET api.github.com/search/repositories?q=kale",
        "GET api.github.com/repos/octocat/none",
    ]
    assert run(GITHUB_NODE).calls() == [*once, *once, "GET api.github.com/user"]


def test_a_password_is_a_key(run: Running) -> None:
    """A proxy key in the place of a password (Basic) is taken there and replaced (R31)."""
    assert run(GITHUB_PYTHON).value("basic") == "octocat"


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize(
    ("step", "status", "text"),
    [
        ("refused", 403, "the key has no permit for this call"),
        ("stranger", 401, "the proxy key is missing or not valid"),
        ("unconnected", 424, "there is no 'nobody'"),
    ],
)
def test_refusals_read_like_github(sdk: Sdk, step: str, status: int, text: str, run: Running) -> None:
    """The proxy's refusals raise the SDK's usual exception, whose message is our sentence (R85)."""
    error = run(sdk).error(step)
    assert error["type"] == ("GithubException" if sdk is GITHUB_PYTHON else "HttpError")
    assert error["status"] == status
    assert text in error["body"]["message"]
    assert text in error["text"]


@pytest.mark.node
def test_keys_of_an_account_are_out_of_reach(run: Running) -> None:
    """An SSH key would be a way in that no proxy sees: making one is refused to every key."""
    error = run(GITHUB_NODE).error("credential")
    assert (error["status"], error["body"]["code"]) == (403, "credential_path")


@pytest.mark.parametrize("sdk", SDKS)
def test_a_permit_is_for_a_method(sdk: Sdk, run: Running) -> None:
    """The key that may not write does what it is permitted to."""
    assert run(sdk).value("permitted") == "octocat"
