"""When connections were used last, as the dashboard tells it."""

from proxy.controlside import uses_of


def test_last_uses_are_of_connections_that_there_are() -> None:
    """The newest use of each counts; what was told of others, now or before they were removed, is forgotten."""
    before = {"kept": 1.0, "used again": 1.0, "removed": 1.0}
    told = {"used again": 2.0, "new": 2.0, "base44:svc:main": 2.0}
    there = {"kept", "used again", "new", "never used"}
    assert uses_of(there, before, told) == {"kept": 1.0, "used again": 2.0, "new": 2.0}
    assert uses_of((), before, told) == {}
