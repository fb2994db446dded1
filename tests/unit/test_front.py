"""Who calls, behind a load balancer: whose word counts, and that nobody else's does (R34, R35)."""

import ipaddress
import json

import pytest
from aiohttp import ClientSession, FormData, web
from hypothesis import given
from hypothesis import strategies as st
from support import raw, steps
from support.plane import KEY, scene

from proxy.control.guarded import guarded_app
from proxy.errors import ConfigurationError
from proxy.forwarding.front import UNKNOWN, Front
from proxy.keys import UNIX
from proxy.settings import load_settings

OURS = (ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/64"))
BY_LIST = Front(OURS)
BY_FORWARDED = Front(OURS, b"forwarded")
HERE = Front((ipaddress.ip_network("127.0.0.1/32"),))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "10.0.0.9"),
        ([b"203.0.113.7"], "203.0.113.7"),
        ([b"198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ([b"198.51.100.1,203.0.113.7 , 10.0.0.2,fd00::5"], "203.0.113.7"),
        ([b"198.51.100.1", b"203.0.113.7", b"10.0.0.2"], "203.0.113.7"),
        ([b"10.0.0.5, 203.0.113.7"], "203.0.113.7"),
        ([b"10.0.0.5, 10.0.0.6"], "10.0.0.5"),
        ([b"203.0.113.7:4711"], "203.0.113.7"),
        ([b"[2001:DB8::1]:4711"], "2001:db8::1"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"fe80::1%eth0"], "fe80::1"),
        ([b"::ffff:203.0.113.7"], "203.0.113.7"),
        ([b"203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        ([b"203.0.113.7, unknown"], UNKNOWN),
        ([b"unknown, 203.0.113.7"], "203.0.113.7"),
        ([b"203.0.113.7, "], UNKNOWN),
        ([b""], UNKNOWN),
        ([b"::"], UNKNOWN),
        ([b"0.0.0.0"], UNKNOWN),
        ([b"\xff"], UNKNOWN),
        ([b"203.0.113.7" + b", 10.0.0.2" * 40], UNKNOWN),
        ([b"1" * 9000], UNKNOWN),
    ],
)  # fmt: skip
def test_the_right_most_stranger_calls(values: list[bytes], expected: str) -> None:
    """Of X-Forwarded-For the last address that is none of ours counts; what our own wrote and is none is nobody's (R35)."""
    assert BY_LIST.caller_of("10.0.0.9", values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"for=203.0.113.7"], "203.0.113.7"),
        ([b'for=198.51.100.1;proto=http, For="203.0.113.7:80" ;by=10.0.0.2'], "203.0.113.7"),
        ([b'proto=https;for="[2001:db8::1]:4711"'], "2001:db8::1"),
        ([b"for=203.0.113.7", b"for=10.0.0.2;by=10.0.0.9"], "203.0.113.7"),
        ([b'for=10.0.0.1;x=", for=203.0.113.7'], UNKNOWN),
        ([b'for=10.0.0.1;x="', b"for=203.0.113.7"], "203.0.113.7"),
        ([b'for=198.51.100.1;x="a,for=10.0.0.1", for=203.0.113.7'], "203.0.113.7"),
        ([b'for=198.51.100.1;x="\\", for=203.0.113.7'], UNKNOWN),
        ([b"for=203.0.113.7;for=198.51.100.1"], UNKNOWN),
        ([b'for=203.0.113.7;host="a;for=10.0.0.1;"'], "203.0.113.7"),
        ([b"xfor=203.0.113.7"], UNKNOWN),
        ([b"for=_hidden"], UNKNOWN),
        ([b"for=unknown"], UNKNOWN),
        ([b"proto=http"], UNKNOWN),
        ([b"for=203.0.113.7, "], UNKNOWN),
        ([b""], UNKNOWN),
    ],
)  # fmt: skip
def test_forwarded_is_read_by_its_grammar(values: list[bytes], expected: str) -> None:
    """The same for Forwarded (RFC 7239): quotes hide nothing, and what does not add up is nobody's (R35)."""
    assert BY_FORWARDED.caller_of("10.0.0.9", values) == expected


@given(st.lists(st.binary(max_size=40), max_size=4), st.sampled_from([BY_LIST, BY_FORWARDED]))
def test_what_a_stranger_writes_changes_nothing(lines: list[bytes], front: Front) -> None:
    """Whatever stands in the lines before ours, the caller is who our own peer saw; a stranger's word counts never (R35)."""
    seen = b"203.0.113.7" if front is BY_LIST else b"for=203.0.113.7"
    assert front.caller_of("10.0.0.9", [*lines, seen]) == "203.0.113.7"
    assert front.caller_of("198.51.100.1", [*lines, seen]) == "198.51.100.1"
    if front is BY_LIST:
        appended = b", ".join([*lines, seen])
        assert front.caller_of("10.0.0.9", [appended]) == "203.0.113.7"


def test_unix_sockets_are_trusted_by_name() -> None:
    """A peer on a unix socket counts where ``unix`` is listed, and no address stands for it."""
    front = Front((UNIX,))
    assert front.caller_of("", [b"203.0.113.7"]) == "203.0.113.7"
    assert front.caller_of("::", [b"203.0.113.7"]) == "::"
    assert BY_LIST.caller_of("", [b"203.0.113.7"]) == ""


def test_settings_say_whom_to_trust() -> None:
    """By default nobody is; networks, addresses and unix are; what is none is refused by name."""
    base = {"HOME": "/nowhere"}
    assert load_settings(None, base).server.front is None
    given = {**base, "CONNECTOR_PROXY_SERVER__TRUSTED_PEERS": '["10.0.0.0/24", "fd00::/64"]'}
    assert load_settings(None, given).server.front == BY_LIST
    with pytest.raises(ConfigurationError, match="TRUSTED_PEERS"):
        load_settings(None, {**base, "CONNECTOR_PROXY_SERVER__TRUSTED_PEERS": '["balancer"]'})


async def test_key_networks_see_the_caller_behind_the_balancer() -> None:
    """On one connection each request is from whom the balancer says: networks admit and refuse by that, logs name it, nothing of it goes on (R34, R35)."""
    office = (ipaddress.ip_network("203.0.113.0/24"),)
    async with scene(front=HERE) as on, on.calling() as caller:
        on.keys(steps.record("*", networks=office))
        for who, status in (
            ("203.0.113.7", 200),
            ("198.51.100.1", 401),
            ("203.0.113.7", 200),
            ("10.0.0.1, 198.51.100.1", 401),
            ("203.0.113.9, junk", 401),
        ):
            assert (await on.ask(caller, fields=[("X-Forwarded-For", who)])).status == status
        assert (await on.ask(caller)).status == 401
        assert (await on.ask(caller, fields=[("Forwarded", "for=203.0.113.7")])).status == 401
        told = await on.logged(7)
        assert [one["caller"] for one in told] == [
            "203.0.113.7",
            "198.51.100.1",
            "203.0.113.7",
            "198.51.100.1",
            UNKNOWN,
            "127.0.0.1",
            "127.0.0.1",
        ]
        assert all(one.value("x-forwarded-for") is None for one in on.upstream.seen())  # fmt: skip


async def test_what_is_no_request_is_from_whoever_is_connected() -> None:
    """A malformed head after a good request is logged with the balancer's address, not with the last caller's."""
    async with scene(front=HERE) as on, on.calling() as caller:
        assert (await on.ask(caller, fields=[("X-Forwarded-For", "203.0.113.7")])).status == 200
        await caller.send(
            raw.request("GET", "/svc/x", key=KEY, fields=[("Content-Length", "1"), ("Content-Length", "2")])
        )
        assert (await caller.answer()).status == 400
        assert [one["caller"] for one in await on.logged(2)] == ["203.0.113.7", "127.0.0.1"]


async def test_without_trusted_peers_fields_count_for_nothing() -> None:
    """Unless it is set up, a caller that writes these fields itself is who it is (R35)."""
    async with scene() as on:
        on.keys(steps.record("*", networks=(ipaddress.ip_network("203.0.113.0/24"),)))
        for name, value in (
            ("X-Forwarded-For", "203.0.113.7"),
            ("Forwarded", "for=203.0.113.7"),
            ("X-Real-IP", "203.0.113.7"),
        ):
            assert (await on.call(fields=[(name, value)])).status == 401
        assert {one["caller"] for one in await on.logged(3)} == {"127.0.0.1"}


async def test_pages_see_the_caller_behind_the_balancer() -> None:
    """On the control plane too, where forms still arrive whole; a stranger's field changes nothing (R35)."""

    async def tell(request: web.Request) -> web.Response:
        form = await request.post()
        return web.json_response([request.remote, form.get("a")])

    for front, expected in ((HERE, "203.0.113.7"), (BY_LIST, "127.0.0.1"), (None, "127.0.0.1")):
        app = guarded_app((), front)
        app.router.add_post("/{any}", tell)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = runner.addresses[0]
        async with ClientSession() as session:
            fields = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
            async with session.post(
                f"http://127.0.0.1:{address[1]}/x", data=FormData({"a": "b"}), headers=fields
            ) as told:
                assert json.loads(await told.text()) == [expected, "b"]
        await runner.cleanup()
