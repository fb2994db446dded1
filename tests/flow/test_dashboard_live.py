"""Live requests and the last hour on the dashboard: what is told, to whom, and how it ends."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.browser import Browser
from support.connecting import Scene, scene
from support.vaults import key_record

from proxy.connectors.passwords import hashed
from proxy.exposition import ADDED_BUCKETS, DURATION_BUCKETS
from proxy.feed import Batch
from proxy.forwarding.headroom import Left, Told
from proxy.secret import Secret

PASSWORD = "correct horse battery"
STORED = hashed(Secret(PASSWORD))
SPENT = {"queue": 0.001, "token": 0.0, "connect": 0.002, "first_byte": 0.003, "total": 0.01}


def request(number: int, status: int = 200, **more: Any) -> dict[str, Any]:
    given = {
        "service": "sandbox",
        "key_id": "abcd1234",
        "method": "GET",
        "path": "/sandbox/x",
        "spent": SPENT,
    }
    return {"request_id": f"r-{number}", "status": status, **given, **more}


async def signed_in(one: Scene, browser: Browser) -> None:
    page = await browser.open(f"{one.public_url}/sign-in")
    assert (await browser.submit(page, password=PASSWORD)).url.path == "/"


async def events(one: Scene, browser: Browser, query: str, count: int) -> list[dict[str, Any]]:
    """The first requests that the stream tells of, once somebody makes them."""
    found: list[dict[str, Any]] = []
    watched = asyncio.Event()
    one.feed.on_watch = lambda on: watched.set() if on else None
    async with (
        aiohttp.ClientSession(cookie_jar=browser.jar, trust_env=False) as session,
        session.get(f"{one.public_url}/live/requests?{query}") as stream,
    ):
        assert stream.content_type == "text/event-stream"
        await watched.wait()
        one.feed.take(
            Batch(
                [
                    request(1),
                    request(2, 404, error="unknown_service", service=None),
                    request(3, 502, error="upstream_unreachable"),
                    request(4, 500),
                    request(5, key_id="efgh5678"),
                ],
                0,
            )
        )
        async for line in stream.content:
            if line.startswith(b"data: "):
                found += json.loads(line[6:])["requests"]
            if len(found) >= count:
                break
    return found


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["r-1", "r-2", "r-3", "r-4", "r-5"]),
        ("service=sandbox&status=5", ["r-3", "r-4"]),
        ("origin=proxy", ["r-2", "r-3"]),
        ("origin=service", ["r-4"]),
        ("key=efgh5678", ["r-5"]),
    ],
)
async def test_requests_are_told_as_they_happen_and_filtered(
    tmp_path: Path, query: str, expected: list[str]
) -> None:
    """The stream tells a signed-in browser of each request that fits, by service, key, status and whose error it is (R158)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await signed_in(one, browser)
        async with asyncio.timeout(20):
            found = await events(one, browser, query, len(expected))
        assert [each["request_id"] for each in found] == expected
        one.feed.close()


async def test_the_filter_offers_keys_in_force(tmp_path: Path) -> None:
    """A key that ended is not in the list, unless it is the one that is asked for (R93)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        living, gone = key_record("living")[0], key_record("gone")[0]
        for record in (living, gone):
            await one.vault.add_key(replace(record, permits=("*",)))
        await one.vault.revoke_key(gone.key_id)
        await signed_in(one, browser)
        shown = await browser.open(f"{one.public_url}/live")
        assert f'<option value="{living.key_id}"' in shown.text
        assert f'<option value="{gone.key_id}"' not in shown.text
        asked = await browser.open(f"{one.public_url}/live?key={gone.key_id}")
        assert f'<option value="{gone.key_id}" selected' in asked.text


async def test_a_stranger_sees_no_requests(tmp_path: Path) -> None:
    """Without signing in the stream is a redirect, and nobody counts as looking on (R93)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as stranger:
        asked = await stranger.ask(f"{one.public_url}/live/requests")
        assert (asked.status, asked.headers["Location"][:9]) == (303, "/sign-in?")
        assert not one.feed.is_watched


async def test_the_overview_has_the_last_hour(tmp_path: Path) -> None:
    """Calls, errors and latencies of what was counted stand there in figures and charts, each with words (R158)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await signed_in(one, browser)
        added = [0, 8, *[0] * (len(ADDED_BUCKETS) - 1), 0.001]
        first = [0, 0, 8, *[0] * (len(DURATION_BUCKETS) - 2), 0.2]
        one.counted["sandbox"] = {
            "requests": {"read 200": 6, "read 404": 1, "write 502": 1},
            "added_latency": added,
            "first_byte": first,
        }
        page = await browser.open(one.public_url)
        for told in (
            "Calls each minute, 8 in all",
            "25.0% of all: 1 4xx, 1 5xx",
            "p50 175 µs, p99 249 µs",
            "p50 17.5 ms, p99 24.9 ms",
        ):
            assert told in page.text
        assert page.text.count('<svg class="chart"') == 4
        assert "Calls left" not in page.text


async def test_the_overview_has_what_is_left_of_limits(tmp_path: Path) -> None:
    """What services said is left stands there by connection, the tightest first, in figures and charts with words (R158)."""
    async with scene(tmp_path, password=STORED) as one, Browser() as browser:
        await signed_in(one, browser)
        now = time.time()
        one.budgets.take(
            [
                Told("sandbox", "main", Left(4_000, 5_000), now - 120),
                Told("sandbox", "main", Left(4_812, 5_000), now),
                Told("sandbox", "<b>tight", Left(3, 100), now),
                Told("gone", "old", Left(12, None), now),
            ]
        )
        text = (await browser.open(one.public_url)).text
        assert "Calls left, as services say" in text
        told = [
            "Sandbox, &lt;b&gt;tight",
            "of 100; lowest in the last hour 3",
            "Sandbox, main",
            '<p class="value">4,812</p>',
            "of 5,000; lowest in the last hour 4,000",
            "gone, old",
            '<p class="soft">lowest in the last hour 12</p>',
        ]
        assert [text.index(words) for words in told] == sorted(text.index(words) for words in told)
        assert text.count('<svg class="chart"') == 4 + 3
