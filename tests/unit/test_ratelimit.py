"""When to call again, from the services' own headers."""

import pytest
from multidict import CIMultiDict

from proxy.catalog import load_catalog
from proxy.forwarding.answer import AnswerReader
from proxy.forwarding.ratelimit import LONGEST_S, wait_seconds

NOW = 1_800_000_000.25
CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("service", "status", "headers", "expected"),
    [
        ("slack", 429, {"retry-after": "30"}, 30.0),
        ("slack", 200, {"Retry-After": "30"}, None),
        ("slack", 429, {}, None),
        ("slack", 429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ("slack", 429, {"Retry-After": "-5"}, None),
        ("slack", 429, {"Retry-After": "nan"}, None),
        ("slack", 429, {"Retry-After": str(LONGEST_S + 1)}, None),
        ("github", 403, {"X-RateLimit-Reset": "1800000060", "X-RateLimit-Remaining": "0"}, 59.75),
        ("github", 403, {"x-ratelimit-reset": "1799999999"}, None),
        ("linear", 400, {"X-RateLimit-Requests-Reset": "1800000010250"}, 10.0),
        ("discord", 429, {"X-RateLimit-Reset-After": "1.5"}, 1.5),
        ("discord", 429, {"Retry-After": "x", "X-RateLimit-Reset": "1800000000.75"}, 0.5),
    ],
)
def test_units_of_the_services(
    service: str, status: int, headers: dict[str, str], expected: float | None
) -> None:
    """Each service's headers are read in its own unit, in any case; nonsense and the past say nothing."""
    found = wait_seconds(CATALOG.services[service].rate_limit, status, CIMultiDict(headers), NOW)
    assert found == pytest.approx(expected)


def test_headers_are_found_by_name_in_any_case() -> None:
    """An answer's fields can be looked up by name, repeated ones in order."""
    reader = AnswerReader()
    reader.begin(b"GET")
    reader.feed(b"HTTP/1.1 429 x\r\nRETRY-AFTER: 3\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")
    assert (reader.headers["Retry-After"], reader.headers.getall("X-A")) == ("3", ["1", "2"])
