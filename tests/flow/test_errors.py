"""Every error that the proxy makes, provoked through a socket; one shape for all of them (design section 9)."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support import raw, strict
from support.lab import SHORT, Lab
from support.providers.scripted import CLIENT_ID, CLIENT_SECRET, Scripted, slow
from support.proxy import ROOT, service_file
from support.raw import document
from support.upstream import Gone, Peer, replying, silent

from proxy import keys, problems
from proxy.errors import RequestError

pytestmark = pytest.mark.traced

Provoke = Callable[[Lab], Awaitable[strict.Message]]
CASES: dict[str, Provoke] = {}

LATER = {
    "upstream_cooling_down": "off by default, and not offered yet",
}


def provokes(code: str) -> Callable[[Provoke], Provoke]:
    def keep(function: Provoke) -> Provoke:
        CASES[code] = function
        return function

    return keep


def leaves(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    below = kind.__subclasses__()
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


async def sent(lab: Lab, data: bytes) -> strict.Message:
    async with lab.calling() as caller:
        await caller.send(data)
        return await caller.answer()


def auth(lab: Lab) -> bytes:
    return b"Host: a\r\nAuthorization: Bearer %s\r\n" % lab.proxy.key.encode()


@provokes("bad_request")
async def _(lab: Lab) -> strict.Message:
    return await sent(lab, b"GET /test/x HTTP/1.1\r\n" + auth(lab) + b"Content-Length: x\r\n\r\n")


@provokes("ambiguous_target")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/test/a/../b")


@provokes("ambiguous_key")
async def _(lab: Lab) -> strict.Message:
    other = keys.generate()[1].reveal()
    return await lab.call("GET", "/test/x", fields=[("X-Api-Key", other)])


@provokes("invalid_key")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/test/x", key=None)


@provokes("not_permitted")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/forbidden/x")


@provokes("credential_path")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("POST", "/guarded/OAuth//token", body=b"")


@provokes("unknown_service")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/nothing/x")


SLOW = keys.generate()[1].reveal()


@provokes("rate_limited")
async def _(lab: Lab) -> strict.Message:
    await lab.call("GET", "/test/x", key=SLOW)
    return await lab.call("GET", "/test/x", key=SLOW)


@provokes("method_not_allowed")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("TRACE", "/test/x")


@provokes("request_timeout")
async def _(lab: Lab) -> strict.Message:
    return await sent(lab, b"POST /test/x HTTP/1.1\r\n" + auth(lab) + b"Content-Length: 5\r\n\r\nhel")


@provokes("body_too_large")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("POST", "/test/x", body=b"a" * 200_000)


@provokes("target_too_long")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/test/" + "a" * 70_000)


@provokes("expectation_failed")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("POST", "/test/x", fields=[("Expect", "more")], body=b"")


@provokes("headers_too_large")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/test/x", fields=[(f"X-{n}", "1") for n in range(300)])


@provokes("unsupported_transfer_coding")
async def _(lab: Lab) -> strict.Message:
    return await sent(
        lab, b"POST /test/x HTTP/1.1\r\n" + auth(lab) + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    )


@provokes("upgrade_unsupported")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/test/x", fields=[("Connection", "Upgrade"), ("Upgrade", "TLS/1.0")])


@provokes("websocket_version")
async def _(lab: Lab) -> strict.Message:
    fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    return await lab.call("GET", "/test/x", fields=fields)


@provokes("ambiguous_connection")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/several/x")


@provokes("not_connected")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/lonely/x")


@provokes("reauthorization_required")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/ended/x")


@provokes("connection_config_missing")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/tenant/x")


@provokes("refresh_failed")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/failing/x")


@provokes("refresh_in_progress")
async def _(lab: Lab) -> strict.Message:
    async with lab.calling() as caller:
        await caller.send(raw.request("GET", "/renewed/x", key=lab.proxy.key))
        return await caller.answer(deadline=15)  # a caller waits 10 s for a refresh


@provokes("overloaded")
async def _(lab: Lab) -> strict.Message:
    await lab.upstream.fresh(silent)
    async with lab.calling() as one, lab.calling() as two:
        for number, caller in enumerate((one, two)):
            await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
            await asyncio.wait_for(lab.upstream.peer(number), 20)
        return await lab.call("GET", "/test/x")


@provokes("upstream_unreachable")
async def _(lab: Lab) -> strict.Message:
    async def script(peer: Peer) -> None:
        await peer.request()
        raise Gone

    await lab.upstream.fresh(script)
    return await lab.call("GET", "/test/x")


@provokes("upstream_tls")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/misnamed/x")


@provokes("upstream_protocol")
async def _(lab: Lab) -> strict.Message:
    await lab.upstream.fresh(replying(b"garbage\r\n\r\n"))
    return await lab.call("GET", "/test/x")


@provokes("address_refused")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/inside/x")


@provokes("credential_invalid")
async def _(lab: Lab) -> strict.Message:
    return await lab.call("GET", "/poisoned/x")


@provokes("upstream_timeout")
async def _(lab: Lab) -> strict.Message:
    await lab.upstream.fresh(silent)
    return await lab.call("GET", "/test/x")


@pytest.fixture(scope="module")
def _errors(runner: asyncio.Runner, authority, tmp_path_factory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("errors")
    failing, poisoned, bare = folder / "failing.py", folder / "poisoned.py", folder / "bare.py"
    bare.write_text('print(\'{"access_token": "t"}\')\n')
    failing.write_text("raise SystemExit(1)\n")
    poisoned.write_text('import json; print(json.dumps({"access_token": "two\\r\\nlines: x"}))\n')
    guarded = service_file("https://up.example", credential_paths='["/oauth/**"]')
    tenant = (
        service_file("https://{tenant}.example.com")
        + '[params.tenant]\npattern = "[a-z]+"\nrequired = true\nexample = "acme"\nsource = "user"\n'
    )
    settings = {
        "timeouts": SHORT,
        "limits": {"body_bytes": 100_000, "upstream_per_service": 2},
        "keys.slow": {"hash": {"env": "SLOW_KEY"}, "allow": ["test"], "rate": "1/h"},
        "registrations.scripted": {"client_id": CLIENT_ID, "client_secret": {"env": "APP_SECRET"}},
        "sources.failing": {"kind": "command", "command": [sys.executable, str(failing)]},
        "sources.tenant": {"kind": "command", "command": [sys.executable, str(bare)]},
        "sources.poisoned": {"kind": "command", "command": [sys.executable, str(poisoned)]},
    }
    names = ("forbidden", "lonely", "failing", "poisoned", "several", "ended")
    services = {name: service_file("https://up.example") for name in names}
    provider = Scripted()
    runner.run(provider.start())
    provider.answer(slow(30))
    services |= {
        "renewed": provider.service_file(),
        "guarded": guarded,
        "tenant": tenant,
        "inside": service_file("https://10.0.0.1"),
        "misnamed": service_file("https://misnamed.example"),
    }
    allow = tuple(name for name in ("test", *services) if name != "forbidden")
    lab = Lab(
        authority,
        folder,
        settings=settings,
        services=services,
        allow=allow,
        tokenless=("lonely", "failing", "poisoned", "several", "ended", "tenant", "renewed"),
        environment={"APP_SECRET": CLIENT_SECRET, "SLOW_KEY": SLOW},
    )
    runner.run(lab.start())
    text = lab.proxy.config.read_text()
    address = lab.upstream.address
    lab.proxy.config.write_text(
        text.replace('"up.example:443" =', f'"misnamed.example:443" = "{address}", "up.example:443" =')
    )
    for name in ("first", "second", "third"):
        lab.proxy.command("connect", "several", "--connection", name, "--access-token-stdin", text="t")
    lab.proxy.command("connections", "remove", "several@first")
    lab.proxy.command(
        "connect", "ended", "--tokens-stdin", text='{"access_token": "t", "expires_at": 1000000000}'
    )
    renewed = {"access_token": "t", "refresh_token": "r", "expires_at": 1000000000}
    lab.proxy.command("connect", "renewed", "--tokens-stdin", text=json.dumps(renewed))
    with lab.proxy:
        yield lab
    runner.run(lab.stop())
    runner.run(provider.stop())


@pytest.fixture
def errors(_errors: Lab, runner: asyncio.Runner) -> Lab:
    """A proxy in which every error can be provoked."""
    runner.run(_errors.fresh())
    return _errors


def test_every_leaf_is_here() -> None:
    """Each leaf of the error tree has a row in the table and a way to provoke it, or a reason why that comes later."""
    codes = {problems.PROBLEMS[leaf].code for leaf in leaves(RequestError)}
    assert codes == {row.code for row in problems.PROBLEMS.values()}
    assert CASES.keys() | LATER.keys() == codes
    assert not CASES.keys() & LATER.keys()


@pytest.mark.parametrize("code", LATER)
def test_what_comes_later_is_raised_nowhere(code: str) -> None:
    """An error without a provoking case is not made anywhere yet: when it is, this test asks for its case."""
    kind = next(leaf.__name__ for leaf, row in problems.PROBLEMS.items() if row.code == code)
    made = re.compile(rf"\b{kind}\(")
    found = [
        path
        for path in (ROOT / "proxy").rglob("*.py")
        if path.name != "errors.py" and made.search(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize("code", CASES)
async def test_provoked(errors: Lab, code: str) -> None:
    """The error comes with its status, code, Proxy-Status, media type and members, and tells nothing of what is inside (R43, R156)."""
    got = await CASES[code](errors)
    row = next(each for each in problems.PROBLEMS.values() if each.code == code)
    assert (got.status, document(got)["code"]) == (row.status, code)
    assert got.value("content-type") == b"application/json"
    assert got.value("proxy-status") == b"connector-proxy; error=" + row.proxy_status.encode()
    assert got.value("cache-control") == b"no-store"
    body = document(got)
    assert {"type", "title", "status", "detail", "code", "instance", "message", "error"} <= body.keys()
    assert (body["status"], body["message"], body["error"]) == (
        row.status,
        body["detail"],
        {"code": code, "message": body["detail"]} | ({".tag": "other"} if row.status == 401 else {}),
    )
    assert body["instance"]
    told = json.dumps(body) + repr(got.fields)
    for inside in (
        errors.proxy.key,
        "upstream-token",
        "up.example",
        "misnamed.example",
        "10.0.0.1",
        str(errors.upstream.port),
        "<html",
    ):
        assert inside not in told
    assert (got.value("www-authenticate") is not None) == (got.status == 401)
    if got.status in {429, 503}:
        assert int(got.value("retry-after") or b"0") >= 1
    if "connect_url" in body:
        assert row.status in {409, 424}
        assert body["connect_url"].startswith("http")


@pytest.mark.parametrize(
    "code", [code for code in CASES if code not in {"overloaded", "refresh_in_progress"}]
)
async def test_each_has_one_event(errors: Lab, code: str) -> None:
    """An error is one event in the log, with its code and the request id that the caller was told (R155)."""
    got = await CASES[code](errors)
    told = document(got)["instance"]
    for _ in range(100):
        events = [event for event in errors.proxy.events() if event.get("request_id") == told]
        if events:
            break
        await asyncio.sleep(0.02)
    assert [(event["error"], event["status"]) for event in events] == [(code, got.status)]


async def test_only_a_bad_key_is_401(errors: Lab) -> None:
    """An unknown service tells nothing without a key; the same 401 for no, a malformed and an unknown key (R84, R85)."""
    unknown = keys.generate()[1].reveal()
    answers = [
        await errors.call("GET", target, key=key)
        for target in ("/test/x", "/nothing/x")
        for key in (None, "cpk_short", unknown, unknown[:-1] + ("a" if unknown[-1] != "a" else "b"))
    ]
    bodies = {json.dumps({k: v for k, v in document(got).items() if k != "instance"}) for got in answers}
    assert {got.status for got in answers} == {401}
    assert len(bodies) == 1


async def test_the_connection_survives_errors_that_leave_no_doubt(errors: Lab) -> None:
    """After 401, 403, 404 and 424 without a body the caller may go on on its connection (R17)."""
    await errors.upstream.fresh()
    async with errors.calling() as caller:
        for target, status in (
            ("/nothing/x", 404),
            ("/forbidden/x", 403),
            ("/lonely/x", 424),
            ("/test/x", 200),
        ):
            assert (await errors.ask(caller, "GET", target)).status == status
