"""Base44's own SDK and command line against the control plane: unmodified, they work and understand what they are told."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Programs
from support.app44 import APP, PROBE, Scene, scene
from support.browser import Browser

from proxy.keys import generate

pytestmark = pytest.mark.node
ROOT = Path(__file__).resolve().parents[2]
CONFIG = {"instance_url": "https://acme.my.salesforce.com"}


async def stocked(one: Scene) -> dict[str, str]:
    """Accounts, and the keys that a program is given."""
    work = await one.connect("slack", "work")
    await one.connect("salesforce", config=CONFIG)
    await one.connect("github", expires_at=time.time() - 60)
    await one.connect(PROBE)
    return {
        "url": one.url,
        "app": APP,
        "key": await one.key("*"),
        "narrow": await one.key("slack"),
        "proxy": await one.key("*", kind="proxy"),
        "stranger": generate()[1].reveal(),
        "connection": work.connection_id,
    }


async def test_the_sdk(tmp_path: Path, programs: Programs) -> None:
    """R165-R169, R171-R174, R184: each call of the connectors module works, or fails with status, code and a text for people."""
    async with scene(tmp_path) as one:
        task = await stocked(one)
        ended = await programs.run(one, "sdk_calls.mjs", task=task)
        assert (ended.code, ended.trapped) == (0, ()), ended.err
        told = ended.document["steps"]
        token = one.token("slack")
        plain = {"accessToken": token, "connectionConfig": None}
        for step in ("connection", "workspace", "from request"):
            assert told[step] == {"value": plain}, step
        assert told["config"]["value"] == {
            "accessToken": one.token("salesforce"),
            "connectionConfig": CONFIG,
        }
        assert told["deprecated"]["value"] == token
        assert told["hundred"]["value"] == [token]
        called = told["call"]["value"]
        assert (called["success"], called["phase"], called["status"]) == (True, "responded", 200)
        assert called["data"]["target"] == "/things?q=a%20b"
        assert json.loads(called["data"]["body"]) == {"name": "Ada"}
        assert one.token(PROBE) not in ended.out
        expected = {
            "call refused": (403, "credential_path"),
            "call not permitted": (403, "not_permitted"),
            "call not connected": (404, "NOT_FOUND"),
            "not connected": (404, "NOT_FOUND"),
            "unknown": (404, "unknown_service"),
            "escaping": (404, "unknown_service"),
            "not permitted": (403, "not_permitted"),
            "proxy key": (401, "invalid_key"),
            "stranger": (401, "invalid_key"),
            "other app": (401, "foreign_app"),
            "reconnect": (424, "reauthorization_required"),
            "app user": (501, "app_user_connectors_unsupported"),
            "connect app user": (501, "app_user_connectors_unsupported"),
            "entities": (404, "not_served"),
        }
        found = {step: told[step]["error"] for step in expected}
        assert {step: (one["status"], one["code"]) for step, one in found.items()} == expected
        for step, error in found.items():
            assert error["type"] == "Base44Error", step
            assert error["message"] == error["data"]["detail"], step
        assert found["not connected"]["data"]["connect_url"].endswith("/connect/notion")
        for secret in (*one.tokens, *(task[name] for name in ("key", "narrow", "proxy", "stranger"))):
            assert secret not in one.text.getvalue()
        assert len(await one.audited("token.reveal")) == 25


async def test_the_function_of_the_page(tmp_path: Path, programs: Programs) -> None:
    """The function that the page shows asks us where its variables are set, and otherwise whom its request names."""
    page = (ROOT / "docs" / "base44.md").read_text(encoding="utf-8")
    code = page.partition("```js\n")[2].partition("```")[0]
    async with scene(tmp_path) as one:
        task = await stocked(one)
        named = {"Base44-Api-Url": one.url, "Base44-Service-Authorization": f"Bearer {task['key']}"}
        elsewhere = {"Base44-Service-Authorization": "Bearer local-dev"}
        variables = {"CONNECTORS_URL": one.url, "CONNECTORS_KEY": task["narrow"]}
        for headers, extra in ((elsewhere, variables), (named, {})):
            given = {"code": code, "headers": {"Base44-App-Id": APP, **headers}}
            ended = await programs.run(one, "function.mjs", task=given, extra=extra)
            assert (ended.code, ended.trapped) == (0, ()), ended.err
            assert ended.document == {"worked": True, "connectionConfig": None}
        asked = [event["key_id"] for event in await one.logged(2)]
        assert asked == [task["narrow"][4:12], task["key"][4:12]]


def shown(ended: Any) -> Any:
    """The command's document, when all went well."""
    assert (ended.code, ended.trapped) == (0, ()), ended
    return ended.document


async def test_the_command_line(tmp_path: Path, programs: Programs) -> None:
    """List what can be connected, begin to connect, pull, push and so remove: the command line's own way through (R167, R169)."""
    async with scene(tmp_path) as one, Browser() as browser:
        task = await stocked(one)
        key = task["key"]
        available = shown(await programs.cli(one, key, "list-available"))["integrations"]
        sandbox = next(each for each in available if each["integrationType"] == "sandbox")
        assert sandbox["connectionConfigFields"][0]["name"] == "subdomain"
        await one.connect("sandbox", config={"subdomain": "acme"}, asked_scopes=("old",))
        words = ("initiate", "--integration-type", "sandbox", "--scopes", "things.read")
        begun = shown(await programs.cli(one, key, *words))
        assert begun["alreadyAuthorized"] is False
        page = await browser.submit(await browser.open(begun["redirectUrl"]))
        page = await browser.send(page, decision="allow", scope=["things.read"])
        assert (await browser.follow(page)).status == 200
        pulled = shown(await programs.cli(one, key, "pull"))
        assert pulled["pulled"] == 6
        folder = Path(pulled["connectorsDir"])
        assert json.loads((folder / "sandbox.jsonc").read_text()) == {
            "type": "sandbox",
            "scopes": ["things.read"],
        }
        for gone in ("salesforce", "github"):
            (folder / f"{gone}.jsonc").unlink()
        pushed = shown(await programs.cli(one, key, "push", "-y"))
        actions = {each["type"]: each["action"] for each in pushed["results"]}
        assert actions == {
            "sandbox": "synced",
            "slack": "synced",
            "linear": "synced",
            "probe": "synced",
            "salesforce": "removed",
            "github": "removed",
        }
        assert one.vault.snapshot.find("salesforce", None) is None


async def test_what_the_command_line_is_told(tmp_path: Path, programs: Programs) -> None:
    """A refusal reaches the person with its text and the id under which the server's log has it."""
    async with scene(tmp_path) as one:
        words = ("initiate", "--integration-type", "github")
        refused = await programs.cli(one, await one.key("*"), *words)
        assert refused.code != 0
        error = refused.document
        assert error["statusCode"] == 428
        assert "registrations set github" in error["error"]
        (event,) = await one.logged(1)
        assert event["request_id"] == error["requestId"]
