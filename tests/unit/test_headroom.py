"""What services say is left of their limits: read from answers, kept for an hour."""

import pytest
from support.plane import credential, scene
from support.upstream import Peer, answer

from proxy.budgets import KEPT, Budgets
from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Catalog, RateLimit
from proxy.forwarding.headroom import Dialect, Headroom, Left, Told, dialect_of
from proxy.history import MINUTES

SERVICES = load_catalog().services
GITHUB = (("X-RateLimit-Limit", "5000"), ("X-RateLimit-Remaining", "4999"))
COUNTS = RateLimit(headers={"X-RateLimit-Remaining": "count", "X-RateLimit-Limit": "count"})


def read(dialect: Dialect | None, *fields: tuple[str, str]) -> Left | None:
    assert dialect is not None
    return dialect.read(([name.encode() for name, _ in fields], [value.encode() for _, value in fields]))


@pytest.mark.parametrize(
    ("service", "fields", "expected"),
    [
        ("github", GITHUB, Left(4999, 5000)),
        ("clickup", (("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "99")), Left(99, 100)),
        ("discord", (*GITHUB, ("X-RateLimit-Reset-After", "1.5")), Left(4999, 5000)),
        ("hubspot", (("X-HubSpot-RateLimit-Max", "110"), ("X-HubSpot-RateLimit-Remaining", "108"),
                     ("X-HubSpot-RateLimit-Daily", "650000"), ("X-HubSpot-RateLimit-Daily-Remaining", "10")), Left(10, 650_000)),
        ("hubspot", (("X-HubSpot-RateLimit-Max", "110"), ("X-HubSpot-RateLimit-Remaining", "1"),
                     ("X-HubSpot-RateLimit-Daily", "650000"), ("X-HubSpot-RateLimit-Daily-Remaining", "649000")), Left(1, 110)),
        ("linear", (("X-RateLimit-Requests-Remaining", "1499"), ("X-RateLimit-Complexity-Remaining", "9")), Left(1499, None)),
        ("salesforce", (("Sforce-Limit-Info", "api-usage=18/5000"),), Left(4982, 5000)),
        ("salesforce", (("Sforce-Limit-Info", "api-usage=25/5000; per-app-api-usage=17/250(appName=sample)"),), Left(233, 250)),
        ("share_point", (("RateLimit-Remaining", "7"),), Left(7, None)),
    ],
)  # fmt: skip
def test_shipped_services_are_read(service: str, fields: tuple[tuple[str, str], ...], expected: Left) -> None:
    """The fields that a shipped file names as counts and ratios are understood; of several budgets the tightest counts."""
    assert read(dialect_of(SERVICES[service].rate_limit), *fields) == expected


def test_services_that_do_not_tell_are_not_read() -> None:
    """A file without such fields costs its answers nothing."""
    assert dialect_of(SERVICES["slack"].rate_limit) is None
    assert dialect_of(SERVICES["airtable"].rate_limit) is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "lots", "9" * 40, "\u0661", "1e9", " 5"])
def test_what_is_no_number_is_nothing(text: str) -> None:
    """A field that holds anything but a number of up to fifteen digits is not told, and breaks nothing."""
    dialect = dialect_of(COUNTS)
    assert read(dialect, ("X-RateLimit-Remaining", text), ("X-RateLimit-Limit", "10")) is None
    assert read(dialect, ("X-RateLimit-Remaining", "5"), ("X-RateLimit-Limit", text)) == Left(5, None)
    assert read(dialect_of(RateLimit(headers={"Used": "ratio"})), ("Used", f"{text}/{text}")) is None


def test_shares_stay_between_nothing_and_all() -> None:
    """A limit of nothing leaves nothing, and more than the limit is all of it."""
    assert [Left(*one).share for one in ((0, 0), (7, 0), (9, 5), (1, 4), (3, None))] == [0, 0, 1, 0.25, None]


def test_between_two_looks_the_tightest_counts() -> None:
    """Several answers to one connection come to one line, with the time of the last."""
    headroom = Headroom()
    headroom.know(SERVICES)
    for number, at in ((b"10", 1.0), (b"4", 2.0), (b"8", 3.0)):
        headroom.note(
            "github", "main", ([b"X-RateLimit-Remaining", b"X-RateLimit-Limit"], [number, b"10"]), at
        )
    headroom.note("slack", "main", ([b"X-RateLimit-Remaining"], [b"1"]), 4.0)
    assert headroom.take() == [Told("github", "main", Left(4, 10), 3.0)]
    assert headroom.take() == []


def test_an_hour_is_kept() -> None:
    """Minute by minute the least that was left, the tightest connection first; silence for an hour is forgotten."""
    now = 600_000.0
    budgets = Budgets(lambda: now)
    budgets.take(
        [Told("github", "wide", Left(90, 100), now - 65), Told("github", "wide", Left(95, 100), now - 61)]
    )
    budgets.take([Told("github", "wide", Left(80, 100), now), Told("clickup", "tight", Left(1, 100), now)])
    budgets.take([Told("linear", "plain", Left(2, None), now)])
    tight, wide, plain = budgets.hour()
    assert [one[0].connection for one in (tight, wide, plain)] == ["tight", "wide", "plain"]
    assert wide[0].last.left == Left(80, 100)
    assert wide[1][-3:] == [Left(90, 100), None, Left(80, 100)]
    assert len(wide[1]) == MINUTES
    now += 3600
    assert budgets.hour() == []


def test_the_least_share_of_a_service() -> None:
    """For a metric: of a service's connections the tightest, while it is news; a service that names no limit has none (R158)."""
    now = 600_000.0
    budgets = Budgets(lambda: now)
    budgets.take(
        [Told("github", "wide", Left(90, 100), now), Told("github", "tight", Left(5, 100), now - 200)]
    )
    budgets.take([Told("linear", "plain", Left(2, None), now), Told("clickup", "none", Left(0, 0), now)])
    assert budgets.shares() == {"github": 0.05, "clickup": 0.0}
    now += 101
    assert budgets.shares() == {"github": 0.9, "clickup": 0.0}
    now += 200
    assert budgets.shares() == {}


def test_memory_is_bounded() -> None:
    """However many connections and minutes there are, so many are kept: those told of last."""
    now = 600_000.0
    budgets = Budgets(lambda: now)
    budgets.take(Told("github", f"c{number}", Left(1, 2), now) for number in range(KEPT + 5))
    assert {one.connection for one, _ in budgets.hour()} == {f"c{number}" for number in range(5, KEPT + 5)}
    for _ in range(3 * MINUTES):
        now += 60
        budgets.take([Told("github", "c9", Left(1, 2), now)])
    ((one, minutes),) = budgets.hour()
    assert len(one.lowest) == len(minutes) == MINUTES


async def test_answers_are_read_as_they_pass() -> None:
    """Both ways through the data path note what an answer tells, for the account that it was for; the answer stays as it is."""

    async def script(peer: Peer) -> None:
        for left in range(9, 0, -1):
            await peer.request()
            fields = ((b"X-RateLimit-Remaining", b"%d" % left), (b"x-ratelimit-limit", b"10"))
            await peer.send(answer(200, b"fine", *fields))

    async with scene(script) as on, on.calling() as caller:
        on.put(catalog=Catalog({"svc": on.service("svc", rate_limit=COUNTS), "other": on.service("other")}))
        for _ in range(3):
            got = await on.ask(caller)
            assert got.value("x-ratelimit-remaining") is not None
        await on.logged(3)
        assert [one[:3] for one in on.plane.headroom.take()] == [("svc", "main", Left(7, 10))]
        on.source.at_hand[None] = credential(service="other")
        assert (await on.ask(caller, "/other/x")).status == 200
        await on.logged(4)
        assert on.plane.headroom.take() == []
