"""Addresses of databases: how far the server is verified, what is refused, and that nothing tells a password."""

import ssl
import traceback

import pytest

from proxy.connectors.postgres_url import DatabaseUrl
from proxy.connectors.reconnecting import Rest
from proxy.errors import ConfigurationError
from proxy.secret import Secret

CANARY = "canary-8d1f"


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("postgresql://u:p@db.internal/vault", "verified"),
        ("postgresql://u:p@db.internal:6432/vault?sslmode=verify-full", "verified"),
        ("postgresql://u:p@db.internal/vault?sslmode=verify-full&sslrootcert=system", "verified"),
        ("postgresql://u:p@localhost,db.internal/vault", "verified"),
        ("postgresql://u:p@10.1.2.3/vault", "verified"),
        ("postgresql://u:p@[2001:db8::1]:5432/vault", "verified"),
        ("postgresql://u:p@/vault?host=db.internal", "verified"),
        ("postgresql://u:p@db.internal/vault?sslrootcert=/etc/ca.pem", "verify-full"),
        ("postgresql://u:p@db.internal/vault?sslmode=verify-full&sslrootcert=/etc/ca.pem", "verify-full"),
        ("postgresql://u:p@db.internal/vault?sslmode=verify-ca&sslrootcert=/etc/ca.pem", "verify-ca"),
        ("postgresql://u:p@db.internal/vault?sslmode=require", "require"),
        ("postgresql://u:p@db.internal/vault?sslmode=disable", "disable"),
        ("postgresql://u:p@localhost/vault", None),
        ("postgres://u:p@127.0.0.1:5432/vault", None),
        ("postgresql://u:p@[::1]/vault", None),
        ("postgresql:///vault", None),
        ("postgresql:///vault?host=/run/postgresql", None),
        ("postgresql://u:p@localhost/vault?sslmode=prefer", "prefer"),
    ],
)
def test_a_server_elsewhere_is_verified_unless_the_address_says_less(url: str, tls: str | None) -> None:
    """Without a word about TLS a server on another host is verified by name and certificate."""
    found = DatabaseUrl.parse(Secret(url)).tls
    if tls != "verified":
        assert found == tls
        return
    assert isinstance(found, ssl.SSLContext)
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://u:{CANARY}@db/x", "postgresql://"),
        (CANARY, "postgresql://"),
        (f"postgresql://u:{CANARY}@{CANARY}@db/x", "%40"),
        (f"postgresql://u:{CANARY}#{CANARY}@db/x", "%23"),
        (f"postgresql://u:{CANARY}@db:{CANARY}/x", "port"),
        (f"postgresql://u:{CANARY}@db:0/x", "port"),
        (f"postgresql://u:{CANARY}@[::1/x", "is no URL"),
        (f"postgresql://u:{CANARY}@db/x?{CANARY}", "is no URL"),
        (f"postgresql://u:{CANARY}@db/x?sslmode={CANARY}", "sslmode must be one of"),
        (f"postgresql://u:{CANARY}@db/x?sslcert=/none/{CANARY}", "sslcert and sslkey"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused_without_repeating_it(url: str, said: str) -> None:
    """One sentence that says what would be right; neither it nor a traceback holds any of the address (R143)."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        DatabaseUrl.parse(Secret(url))
    assert "storage.database_url" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://{CANARY}:{CANARY}@db:6432/vault?x={CANARY}", "PostgreSQL database vault on db:6432"),
        (f"postgresql://{CANARY}:{CANARY}@a,b:1/my%20vault", "PostgreSQL database my vault on a, b:1"),
        ("postgresql:///vault?host=/run/pg", "PostgreSQL database vault on /run/pg"),
        ("postgresql://", "PostgreSQL database (of the user) on this host"),
    ],
)
def test_what_is_shown_of_an_address(url: str, shown: str) -> None:
    """Database and hosts, neither user nor password nor parameters; repr shows no more (R143)."""
    address = DatabaseUrl.parse(Secret(url + ("&" if "?" in url else "?") + "sslmode=disable"))
    assert address.shown == shown
    assert CANARY not in repr(address)


@pytest.mark.parametrize(
    ("url", "name"),
    [("postgresql:///x", "connector-proxy"), ("postgresql:///x?application_name=east-1", None)],
)
def test_the_servers_statistics_may_know_instances_by_name(url: str, name: str | None) -> None:
    """Ours is only the default of ``application_name``."""
    assert DatabaseUrl.parse(Secret(url)).application == name


def test_a_rest_grows_and_ends() -> None:
    """After each failure twice as long, never over two seconds; one success and it begins small again (R147)."""
    now = 100.0
    rest = Rest(lambda: now)
    assert rest.is_over
    longest = []
    for _ in range(12):
        asleep = rest.failed()
        assert not rest.is_over
        now += asleep
        assert rest.is_over
        longest.append(asleep)
    assert all(0.025 * 2**at <= asleep <= min(0.05 * 2**at, 2.0) for at, asleep in enumerate(longest[:5]))
    assert 1.0 <= longest[-1] <= 2.0
    rest.worked()
    assert rest.failed() <= 0.05
