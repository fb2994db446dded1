"""What holds for every SDK: nothing of the proxy's gets out, nothing of the account's gets in, no call goes astray."""

from collections.abc import Callable

import pytest
from answers import HOSTS, WITHOUT_TOKEN
from scene import SDKS, TOKENS, Run, Scene, Sdk
from support.spellings import spelling_of

Running = Callable[[Sdk], Run]


def sdks(*which: Sdk) -> pytest.MarkDecorator:
    """Parametrises over programs; those for Node carry their mark."""
    marked = [
        pytest.param(sdk, id=sdk.program, marks=[pytest.mark.node] if sdk.is_node else []) for sdk in which
    ]
    return pytest.mark.parametrize("sdk", marked)


@sdks(*SDKS)
def test_no_key_reaches_a_service(sdk: Sdk, run: Running, scene: Scene) -> None:
    """No key that an SDK was given, good or bad, is in anything a service got, in any spelling (R31)."""
    done = run(sdk)
    sent = b"".join(bytes(conversation.sent) for conversation in done.conversations)
    assert spelling_of(scene.proxy.key, sent), "the recorder has not seen the SDK present its key"
    for key in scene.keys:
        assert [
            spelling_of(key, fragment) for fragment in done.fragments() if spelling_of(key, fragment)
        ] == []


@sdks(*SDKS)
def test_the_real_token_arrives_once(sdk: Sdk, run: Running, report: Callable[[str], None]) -> None:
    """Each call carries its service's token, in one Authorization field and nowhere else (R31); presigned ones none."""
    done = run(sdk)
    assert done.arrived
    for arrival in done.arrived:
        expected = [b"Bearer " + TOKENS[arrival.host].encode()] if arrival.place not in WITHOUT_TOKEN else []
        assert arrival.request.values("authorization") == expected
    counted = sum(data.count(token.encode()) for data in done.recorded for token in set(TOKENS.values()))
    assert counted == sum(arrival.place not in WITHOUT_TOKEN for arrival in done.arrived)
    report(f"{sdk.program} {done.version}: {len(done.told)} uses, {len(done.arrived)} calls at services")


@sdks(*SDKS)
def test_no_token_reaches_the_sdk(sdk: Sdk, run: Running) -> None:
    """Nothing that an SDK receives, prints or raises holds a real token, in any spelling (R42, R143)."""
    done = run(sdk)
    parts = [*done.received(), done.output]
    assert len(parts) > 1
    for token in TOKENS.values():
        assert [part for part in parts if spelling_of(token, part)] == []


@sdks(*SDKS)
def test_every_call_stays_inside(sdk: Sdk, run: Running) -> None:
    """An SDK with a base URL looks up no name, dials only the proxy, and each call is for the host of its SNI (R36, R75)."""
    done = run(sdk)
    assert done.trapped == ()
    for arrival in done.arrived:
        assert arrival.host == arrival.sni
        assert arrival.host in HOSTS


@sdks(*SDKS)
def test_what_arrives_is_well_formed(sdk: Sdk, run: Running) -> None:
    """Whatever HTTP an SDK speaks, services get requests that the strictest reader takes (R1)."""
    assert run(sdk).dirt == ()


@pytest.mark.node
def test_the_log_holds_no_secret(run: Running, scene: Scene) -> None:
    """After all these calls neither a key nor a token stands in anything that the proxy printed (R143, R155)."""
    for sdk in SDKS:
        run(sdk)
    log = scene.proxy.log.encode()
    assert b"api.notion.com" in log or b"notion" in log
    assert [secret[:4] for secret in (*scene.keys, *TOKENS.values()) if spelling_of(secret, log)] == []


def test_the_trap_holds_python(run: Running) -> None:
    """The trap of the Python processes works: an SDK without a base URL is caught at the name of its vendor."""
    done = run(Sdk("python/leaving_calls.py"))
    caught = "\n".join(done.trapped)
    for name in ("slack.com", "files.slack.com", "api.github.com", "192.0.2.1", "'127.0.0.1', 9"):
        assert name in caught
    assert [step for step, told in done.told.items() if "error" not in told] == []
    assert done.arrived == ()


@pytest.mark.node
def test_the_trap_holds_node(run: Running) -> None:
    """The trap of the Node processes works: fetch, node:https, node:dns and plain addresses are caught."""
    done = run(Sdk("node/leaving_calls.mjs"))
    caught = "\n".join(done.trapped)
    for name in (
        "api.github.com",
        "slack.com",
        "files.slack.com",
        "www.googleapis.com",
        "192.0.2.1",
        "127.0.0.1:9999",
    ):
        assert name in caught
    assert [step for step, told in done.told.items() if "error" not in told] == []
    assert done.arrived == ()
