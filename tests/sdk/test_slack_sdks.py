"""Slack's own SDKs for Python and Node."""

from collections.abc import Callable
from urllib.parse import parse_qsl

import pytest
from scene import SLACK_FORM_NODE, SLACK_FORM_PYTHON, SLACK_NODE, SLACK_PYTHON, Run, Sdk

Running = Callable[[Sdk], Run]

SDKS = [pytest.param(SLACK_PYTHON, id="python"), pytest.param(SLACK_NODE, id="node", marks=pytest.mark.node)]
FORMS = [
    pytest.param(SLACK_FORM_PYTHON, id="python"),
    pytest.param(SLACK_FORM_NODE, id="node", marks=pytest.mark.node),
]
STYLES = ("base", "origin")
TEXT = "Grüße & <ciao> 50% + 1 = ✓"
ONCE = [
    "auth.test",
    "conversations.list",
    "conversations.list",
    "chat.postMessage",
    "chat.postMessage",
]


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("style", STYLES)
def test_reads_and_writes(sdk: Sdk, style: str, run: Running) -> None:
    """Under the API base and the origin: a call, pages by cursor, a write whose text stays as it is (R43)."""
    done = run(sdk)
    assert done.value(f"{style} whoami")["user_id"] == "W12345678"
    assert done.value(f"{style} pages") == ["general", "random", "café"]
    assert done.value(f"{style} write")["message"]["text"] == TEXT


@pytest.mark.parametrize("sdk", SDKS)
def test_both_spellings_arrive_alike(sdk: Sdk, run: Running) -> None:
    """Slack sees the same calls whichever base URL was chosen, and none of those that the proxy refused (R26)."""
    limited = ["reactions.add"] * 2
    more = ["auth.test"] * (2 if sdk is SLACK_PYTHON else 1)  # the async client; the key that may only look
    assert run(sdk).calls() == [f"POST slack.com/api/{name}" for name in [*ONCE, *ONCE, *limited, *more]]


@pytest.mark.parametrize("sdk", SDKS)
def test_a_limited_call_is_repeated(sdk: Sdk, run: Running) -> None:
    """A 429 reaches the SDK with its Retry-After: it waits and repeats the call by itself (R65)."""
    assert run(sdk).value("limited")["ok"] is True


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("style", STYLES)
def test_slack_errors_pass(sdk: Sdk, style: str, run: Running) -> None:
    """What Slack says with 200 and ok:false is raised as without the proxy (R43)."""
    error = run(sdk).error(f"{style} missing")
    assert error["type"] == ("SlackApiError" if sdk is SLACK_PYTHON else "WebAPIPlatformError")
    assert error["body"]["error"] == "channel_not_found"


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize(
    ("step", "code", "text"),
    [
        ("refused", "not_permitted", "the key has no permit for this call"),
        ("credential", "credential_path", "closed to every key"),
        ("unconnected", "not_connected", "there is no 'nobody'"),
    ],
)
def test_refusals_read_like_slack(sdk: Sdk, step: str, code: str, text: str, run: Running) -> None:
    """The proxy's refusals raise what a Slack program handles already; the exception's text has our code and sentence."""
    error = run(sdk).error(step)
    assert error["type"] == ("SlackApiError" if sdk is SLACK_PYTHON else "WebAPIPlatformError")
    assert error["body"]["ok"] is False
    assert error["body"]["code"] == code
    assert f"{code}: " in error["text"]
    assert text in error["text"]


@pytest.mark.parametrize("sdk", SDKS)
def test_a_permit_is_for_one_method(sdk: Sdk, run: Running) -> None:
    """The key that may not write does what it is permitted to."""
    assert run(sdk).value("permitted")["ok"] is True


@pytest.mark.parametrize("sdk", SDKS)
def test_a_strange_key(sdk: Sdk, run: Running) -> None:
    """A key that is none gets 401 and is told nothing about the service (R84, R85)."""
    error = run(sdk).error("stranger")
    assert error["type"] == ("SlackApiError" if sdk is SLACK_PYTHON else "WebAPIHTTPError")
    assert error["status"] == 401


def test_the_async_client(run: Running) -> None:
    """slack_sdk's asyncio client works like the other one."""
    assert run(SLACK_PYTHON).value("async")["user_id"] == "W12345678"


@pytest.mark.parametrize("sdk", FORMS)
def test_a_token_in_the_form(sdk: Sdk, run: Running) -> None:
    """A token given to one call (form alone in Python, header and form in Node) is taken; the rest of the form stays."""
    done = run(sdk)
    assert done.value("form")["user_id"] == "W12345678"
    assert done.value("write")["message"]["text"] == TEXT
    assert done.calls() == ["POST slack.com/api/auth.test", "POST slack.com/api/chat.postMessage"]
    for arrival in done.arrived:
        assert "token" not in dict(parse_qsl(arrival.request.body.decode(), keep_blank_values=True))


@pytest.mark.parametrize("sdk", FORMS)
def test_a_key_in_the_form_is_judged(sdk: Sdk, run: Running) -> None:
    """A key in the form has no more rights than in a header, and a strange one has none (R84, R85)."""
    done = run(sdk)
    assert done.error("refused")["body"]["code"] == "not_permitted"
    assert done.error("stranger")["status"] == 401
