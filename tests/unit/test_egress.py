"""From an origin to the address that is dialled: what is checked is what is used."""

import asyncio
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.certificates import Authority

from proxy.catalog.origin import Origin, parse_origin
from proxy.errors import AddressRefused, RequestError, UpstreamUnreachable
from proxy.forwarding import egress, known
from proxy.forwarding.addresses import Dial
from proxy.forwarding.egress import Denied, Dialer, EgressPolicy
from proxy.forwarding.known import ADDRESS_TTL_S, FAILURE_TTL_S, KEPT_S

SLACK = parse_origin("https://slack.com")


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Names:
    """A resolver that answers what the test said, counts, and can be held back."""

    def __init__(self, **answers: Sequence[str] | Exception) -> None:
        self.answers: dict[str, Sequence[str] | Exception] = {
            name.replace("_", "."): answer for name, answer in answers.items()
        }
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        await self.open.wait()
        answer = self.answers.get(host, OSError("no such name"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def dialer(
    names: Names,
    policy: EgressPolicy | None = None,
    *,
    clock: Callable[[], float] | None = None,
    told: list[Denied] | None = None,
) -> Dialer:
    """A dialer over scripted names."""
    heard = told if told is not None else []
    return Dialer(policy or EgressPolicy(), clock or Clock(), resolve=names, on_denied=heard.append)


async def refusal(one: Dialer, origin: Origin) -> RequestError:
    """The error that an origin meets."""
    with pytest.raises(RequestError) as caught:
        await one.addresses(origin)
    return caught.value


async def test_public_addresses_come_in_order_with_the_port():
    """R78: every address of a name is offered, in the resolver's order, once."""
    one = dialer(Names(slack_com=["1.2.3.4", "2606:4700::1", "1.2.3.4"]))
    assert one.ready(SLACK) is None
    assert await one.addresses(SLACK) == (Dial("1.2.3.4", 443), Dial("2606:4700::1", 443))
    assert one.ready(SLACK) == (Dial("1.2.3.4", 443), Dial("2606:4700::1", 443))


async def test_a_denied_address_is_skipped_and_told_to_the_log():
    """R79, R157: the private one of two addresses is not dialled, and the operator can see it."""
    told: list[Denied] = []
    one = dialer(Names(slack_com=["10.0.0.7", "1.2.3.4"]), told=told)
    assert await one.addresses(SLACK) == (Dial("1.2.3.4", 443),)
    assert told == [Denied("slack.com", 443, (("10.0.0.7", "private"),))]


async def test_when_every_address_is_denied_the_caller_learns_none_of_them():
    """R79, R156: all denied is a refusal whose text holds no address and no host."""
    told: list[Denied] = []
    one = dialer(Names(slack_com=["10.0.0.7", "::ffff:169.254.169.254", "not an address"]), told=told)
    error = await refusal(one, SLACK)
    assert type(error) is AddressRefused
    assert not any(word in error.detail for word in ("10.0.0.7", "169.254", "slack"))
    reasons = dict(told[0].addresses)
    assert reasons == {
        "10.0.0.7": "private",
        "::ffff:169.254.169.254": "ipv4_mapped",
        "not an address": "not_an_address",
    }


async def test_a_name_that_changes_between_check_and_connect_changes_nothing():
    """R78: the checked address is what is handed out; a second answer is checked again before it counts."""
    clock, names = Clock(), Names(slack_com=["1.2.3.4"])
    one = dialer(names, clock=clock)
    before = await one.addresses(SLACK)
    names.answers["slack.com"] = ["127.0.0.1"]
    assert await one.addresses(SLACK) == one.ready(SLACK) == before
    clock.now += ADDRESS_TTL_S
    assert one.ready(SLACK) is None
    assert type(await refusal(one, SLACK)) is AddressRefused
    assert names.asked == ["slack.com"] * 2


@pytest.mark.parametrize(
    "failure", [socket.gaierror(-2, "NXDOMAIN"), UnicodeError("label too long"), TimeoutError()]
)
async def test_a_name_without_addresses_is_unreachable_and_soon_asked_again(failure: Exception):
    """R46: no address is 502 upstream_unreachable; the failure is remembered for a second only."""
    clock, names = Clock(), Names(slack_com=failure)
    one = dialer(names, clock=clock)
    assert type(await refusal(one, SLACK)) is UpstreamUnreachable
    assert type(await refusal(one, SLACK)) is UpstreamUnreachable
    assert len(names.asked) == 1
    clock.now += FAILURE_TTL_S
    names.answers["slack.com"] = ["1.2.3.4"]
    assert await one.addresses(SLACK)


async def test_an_empty_answer_is_refused():
    """A resolver that knows no address does not count as success."""
    assert type(await refusal(dialer(Names(slack_com=[])), SLACK)) is AddressRefused


async def test_a_resolver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """R57: name resolution has its own limit."""
    monkeypatch.setattr(egress, "RESOLVE_TIMEOUT_S", 0.01)
    names = Names(slack_com=["1.2.3.4"])
    names.open.clear()
    assert type(await refusal(dialer(names), SLACK)) is UpstreamUnreachable


async def test_lookups_at_the_same_time_are_one_and_outlive_the_caller_who_left():
    """A hundred callers of a fresh name cost one lookup, and a caller that leaves does not cancel it."""
    names = Names(slack_com=["1.2.3.4"])
    names.open.clear()
    one = dialer(names)
    waiting = [asyncio.create_task(one.addresses(SLACK)) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    names.open.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [(Dial("1.2.3.4", 443),)] * 99
    assert len(names.asked) == 1


async def test_closing_ends_lookups_that_hang():
    """R163: nothing is left running."""
    names = Names(slack_com=["1.2.3.4"])
    names.open.clear()
    one = dialer(names)
    task = asyncio.create_task(one.addresses(SLACK))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await one.aclose()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "134744072", "017700000001"])
async def test_odd_spellings_of_addresses_are_refused_without_a_lookup(host: str):
    """R78: not even the odd spelling of a public address gets to the resolver."""
    names = Names(**{host.replace(".", "_"): ["8.8.8.8"]})
    assert type(await refusal(dialer(names), Origin("https", host, 443))) is AddressRefused
    assert names.asked == []


async def test_an_address_in_place_of_a_name_is_judged_the_same():
    """R78: a literal address needs no lookup and no mercy."""
    names = Names()
    assert await dialer(names).addresses(Origin("https", "8.8.8.8", 443)) == (Dial("8.8.8.8", 443),)
    assert type(await refusal(dialer(names), Origin("https", "10.0.0.1", 443))) is AddressRefused
    assert type(await refusal(dialer(names), Origin("https", "::1", 443))) is AddressRefused
    assert names.asked == []


def networks(*texts: str) -> EgressPolicy:
    """A policy that admits these networks."""
    return EgressPolicy(allow_addresses=tuple(map(ipaddress.ip_network, texts)))


@pytest.mark.parametrize(
    ("policy", "address", "admitted"),
    [
        (networks("10.0.0.0/8"), "10.1.2.3", True),
        (networks("10.0.0.0/8"), "192.168.0.1", False),
        (networks("10.0.0.0/8"), "::ffff:10.1.2.3", False),
        (networks("64:ff9b::/96"), "64:ff9b::8.8.8.8", True),
        (networks("64:ff9b::/96"), "64:ff9b::127.0.0.1", False),
        (networks("64:ff9b::/96", "127.0.0.0/8"), "64:ff9b::127.0.0.1", True),
        (networks("0.0.0.0/0"), "127.0.0.1", True),
        (networks("0.0.0.0/0"), "169.254.169.254", False),
        (networks("169.254.169.254/32"), "169.254.169.254", True),
        (networks("::/0"), "fd00:ec2::254", False),
    ],
)
async def test_listed_networks_are_admitted_and_nothing_wider(
    policy: EgressPolicy, address: str, *, admitted: bool
):
    """R78: what the operator lists is dialled; an address inside another needs both; metadata is listed by itself."""
    one = dialer(Names(slack_com=[address]), policy)
    if admitted:
        assert await one.addresses(SLACK) == (Dial(address, 443),)
    else:
        assert type(await refusal(one, SLACK)) is AddressRefused


async def test_connect_to_dials_elsewhere_without_asking_and_keeps_the_name():
    """Connect_to is exempt from the guard; the port of the origin is part of its name."""
    names = Names(slack_com=["1.2.3.4"])
    one = dialer(names, EgressPolicy(connect_to={"slack.com:443": Dial("127.0.0.1", 9443)}))
    assert await one.addresses(SLACK) == (Dial("127.0.0.1", 9443),)
    assert names.asked == []
    assert await one.addresses(Origin("https", "slack.com", 8443)) == (Dial("1.2.3.4", 8443),)


@pytest.mark.parametrize(
    ("own", "address", "port", "refused"),
    [
        (Dial("127.0.0.1", 8080), "127.0.0.1", 8080, True),
        (Dial("127.0.0.1", 8080), "127.0.0.1", 8081, False),
        (Dial("0.0.0.0", 8080), "127.0.0.1", 8080, True),
        (Dial("::", 8080), "127.0.0.1", 8080, True),
        (Dial("::", 8080), "::ffff:127.0.0.1", 8080, True),
        (Dial("0.0.0.0", 443), "192.0.2.1", 443, False),
    ],
)
async def test_a_connection_to_ourselves_is_refused_even_where_the_operator_allows_the_network(
    own: Dial, address: str, port: int, *, refused: bool
):
    """R79: a service that leads back to one of our own listeners would loop, whatever lists say."""
    everything = tuple(map(ipaddress.ip_network, ("0.0.0.0/0", "::/0")))
    policy = EgressPolicy(allow_addresses=everything, own=(own,))
    assert (policy.denies(ipaddress.ip_address(address), port) == "self") is refused
    looped = dialer(Names(), EgressPolicy(connect_to={"slack.com:443": Dial(address, port)}, own=(own,)))
    if refused:
        assert type(await refusal(looped, SLACK)) is AddressRefused


@pytest.mark.parametrize(
    ("origin", "answer", "policy", "admitted"),
    [
        ("http://localhost:3000", ["127.0.0.1"], EgressPolicy(), True),
        ("http://127.0.0.1:3000", [], EgressPolicy(), True),
        ("http://api.example:3000", ["127.0.0.1"], EgressPolicy(), False),
        ("http://api.example:3000", ["1.2.3.4"], EgressPolicy(), False),
        ("http://api.example:3000", ["10.0.0.1"], networks("10.0.0.0/8"), True),
        ("http://api.example:3000", ["1.2.3.4"], networks("1.2.3.0/24"), True),
        ("https://localhost:3000", ["127.0.0.1"], EgressPolicy(), False),
    ],
)
async def test_plain_http_goes_to_loopback_or_listed_networks_only(
    origin: str, answer: list[str], policy: EgressPolicy, *, admitted: bool
):
    """A token never crosses the open network in the clear."""
    names = Names(localhost=answer, api_example=answer)
    if admitted:
        assert await dialer(names, policy).addresses(parse_origin(origin))
    else:
        assert type(await refusal(dialer(names, policy), parse_origin(origin))) is AddressRefused


async def test_forgetting_an_origin_asks_again():
    """After a failure to connect the name is looked up anew, not after the cache's time."""
    names = Names(slack_com=["1.2.3.4"])
    one = dialer(names)
    await one.addresses(SLACK)
    one.forget(SLACK)
    assert one.ready(SLACK) is None
    await one.addresses(SLACK)
    assert len(names.asked) == 2


SILENCE = [socket.gaierror(socket.EAI_AGAIN, "try again"), TimeoutError(), OSError("no network")]


@pytest.mark.parametrize("silence", SILENCE)
async def test_addresses_outlive_a_resolver_that_fails(silence: Exception):
    """A resolver that says nothing fails no call that could be served: the last addresses serve for five minutes more."""
    clock, names = Clock(), Names(slack_com=["1.2.3.4"])
    one = dialer(names, clock=clock)
    before = await one.addresses(SLACK)
    names.answers["slack.com"] = silence
    clock.now += ADDRESS_TTL_S
    assert await one.addresses(SLACK) == one.ready(SLACK) == before
    clock.now += FAILURE_TTL_S
    assert one.ready(SLACK) is None  # it is tried again soon
    clock.now += KEPT_S - FAILURE_TTL_S - 0.1
    assert await one.addresses(SLACK) == before
    clock.now += 0.1
    assert one.ready(SLACK) is None
    assert type(await refusal(one, SLACK)) is UpstreamUnreachable
    assert names.asked == ["slack.com"] * 4


async def test_addresses_serve_while_a_new_look_is_late(monkeypatch: pytest.MonkeyPatch):
    """A look that takes long is waited for by one call for a moment, by the next ones not at all; then it counts."""
    monkeypatch.setattr(known, "LATE_S", 0.01)
    clock, names = Clock(), Names(slack_com=["1.2.3.4"])
    one = dialer(names, clock=clock)
    before = await one.addresses(SLACK)
    clock.now += ADDRESS_TTL_S
    names.answers["slack.com"] = ["5.6.7.8"]
    names.open.clear()
    assert await one.addresses(SLACK) == one.ready(SLACK) == before
    names.open.set()
    async with asyncio.timeout(30):
        while one.ready(SLACK) == before:  # noqa: ASYNC110  # nobody waits for that look any more
            await asyncio.sleep(0)
    assert one.ready(SLACK) == (Dial("5.6.7.8", 443),)
    assert names.asked == ["slack.com"] * 2


@pytest.mark.parametrize("errno", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_an_answer_that_there_is_no_such_name_ends_its_addresses(errno: int):
    """R78: what its owner took away is not called any more (RFC 8767 §4); a private address ends them, too."""
    clock, names = Clock(), Names(slack_com=["1.2.3.4"])
    one = dialer(names, clock=clock)
    await one.addresses(SLACK)
    clock.now += ADDRESS_TTL_S
    names.answers["slack.com"] = socket.gaierror(errno, "no such name")
    assert type(await refusal(one, SLACK)) is UpstreamUnreachable
    clock.now += FAILURE_TTL_S
    names.answers["slack.com"] = TimeoutError()
    assert type(await refusal(one, SLACK)) is UpstreamUnreachable


async def test_kept_addresses_are_judged_once_more(monkeypatch: pytest.MonkeyPatch):
    """R78, R79: an address that has become our own meanwhile is not dialled because it was another's once."""
    clock, names = Clock(), Names(slack_com=["1.2.3.4", "5.6.7.8"])
    one = dialer(names, EgressPolicy(own=(Dial("0.0.0.0", 443),)), clock=clock)
    assert len(await one.addresses(SLACK)) == 2
    names.answers["slack.com"] = TimeoutError()
    for ours, left in (({"1.2.3.4"}, (Dial("5.6.7.8", 443),)), ({"1.2.3.4", "5.6.7.8"}, None)):
        monkeypatch.setattr(egress, "is_own_interface", lambda address, ours=ours: str(address) in ours)
        clock.now += ADDRESS_TTL_S
        if left is None:
            assert type(await refusal(one, SLACK)) is UpstreamUnreachable
        else:
            assert await one.addresses(SLACK) == left


async def test_addresses_that_took_no_connection_wait_for_a_new_look(monkeypatch: pytest.MonkeyPatch):
    """After a failure to connect a slow look is waited for; only where it fails are the old addresses tried again."""
    monkeypatch.setattr(known, "LATE_S", 0.01)
    names = Names(slack_com=["1.2.3.4"])
    one = dialer(names)
    before = await one.addresses(SLACK)
    names.open.clear()
    one.forget(SLACK)
    waiting = asyncio.create_task(one.addresses(SLACK))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    names.answers["slack.com"] = TimeoutError()
    names.open.set()
    assert await waiting == one.ready(SLACK) == before
    one.forget(SLACK)
    names.answers["slack.com"] = ["5.6.7.8"]
    assert await one.addresses(SLACK) == (Dial("5.6.7.8", 443),)


async def test_the_cache_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """R162: many hosts (params of many connections) do not grow memory without end."""
    monkeypatch.setattr(known, "CACHE_SIZE", 4)
    names = Names(**{f"h{i}_example": ["1.2.3.4"] for i in range(9)})
    one = dialer(names)
    for i in range(9):
        await one.addresses(parse_origin(f"https://h{i}.example"))
    assert len(one._lookups) == 4
    assert one.ready(parse_origin("https://h8.example")) is not None


def test_tls_contexts_verify_and_extra_roots_are_kept_to_their_hosts(authority: Authority):
    """R68: chain and name are checked, TLS 1.2 at least; ca_file counts only where it is meant to."""
    policy = EgressPolicy(
        connect_to={"up.example:443": Dial("127.0.0.1", 9443)}, ca_file=authority.ca_file, ca_hosts=()
    )
    one = Dialer(policy, Clock())
    plain, extra = one.ssl_context(SLACK), one.ssl_context(parse_origin("https://up.example"))
    assert plain is not None
    assert extra is not None
    assert extra is not plain
    for context in (plain, extra):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.keylog_filename is None
    own = {cert["serialNumber"] for cert in extra.get_ca_certs()} - {
        cert["serialNumber"] for cert in plain.get_ca_certs()
    }
    assert len(own) == 1
    assert one.ssl_context(parse_origin("http://localhost:3000")) is None
    assert one.ssl_context(SLACK) is plain


@pytest.mark.parametrize(
    ("host", "trusted"),
    [("a.test", True), ("x.corp.test", True), ("corp.test", False), ("evilcorp.test", False)],
)
def test_listed_hosts_of_the_extra_roots_match_whole_labels(
    authority: Authority, host: str, *, trusted: bool
):
    """R80: ``*.suffix`` matches below the suffix, never the suffix itself or a longer label."""
    policy = EgressPolicy(ca_file=authority.ca_file, ca_hosts=("a.test", "*.corp.test"))
    assert policy.trusts_extra_roots(host) is trusted


@pytest.mark.parametrize(
    "presented", ["server", "server_of_stranger", "server_expired", "server_self_signed", "other"]
)
async def test_a_handshake_succeeds_only_with_a_good_certificate(authority: Authority, presented: str):
    """R68: a stranger's, an expired, a self-signed certificate and one for another name are refused on a real socket."""
    name = "up.example" if presented != "other" else "elsewhere.example"
    make = authority.server if presented == "other" else getattr(authority, presented)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=make(name))
    port = server.sockets[0].getsockname()[1]
    policy = EgressPolicy(connect_to={"up.example:443": Dial("127.0.0.1", port)}, ca_file=authority.ca_file)
    one, origin = Dialer(policy, Clock()), parse_origin("https://up.example")
    (dial,) = await one.addresses(origin)
    try:
        opening = asyncio.open_connection(
            dial.ip, dial.port, ssl=one.ssl_context(origin), server_hostname=origin.host
        )
        if presented == "server":
            _, writer = await opening
            assert writer.get_extra_info("ssl_object").version() in {"TLSv1.2", "TLSv1.3"}
            writer.close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await opening
    finally:
        server.close()
        await server.wait_closed()


def test_a_missing_ca_file_is_told_when_the_dialer_is_made(tmp_path: Path):
    """R160: a wrong path fails at the start, not at the first request."""
    with pytest.raises(OSError, match="No such file"):
        Dialer(EgressPolicy(ca_file=tmp_path / "none.pem"), Clock())


def test_the_environments_proxies_and_key_log_are_not_looked_at(tmp_path: Path):
    """R82, R143: HTTPS_PROXY changes nothing and SSLKEYLOGFILE gets no session keys."""
    keys = tmp_path / "keys"
    code = (
        "import asyncio\n"
        "from proxy.forwarding.egress import *\n"
        "from proxy.catalog.origin import parse_origin\n"
        "async def names(host, port):\n    return ['1.2.3.4']\n"
        "one = Dialer(EgressPolicy(), lambda: 0.0, resolve=names)\n"
        "origin = parse_origin('https://slack.com')\n"
        "print(asyncio.run(one.addresses(origin))[0], one.ssl_context(origin).keylog_filename)\n"
    )
    environ = os.environ | {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "SSLKEYLOGFILE": str(keys),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "1.2.3.4:443 None"
    assert not keys.exists()
