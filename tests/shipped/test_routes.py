"""The shipped services: where their addresses lead, and what is closed in them."""

import json
from pathlib import Path

import pytest

from proxy.catalog import load_catalog
from proxy.errors import AmbiguousTarget, CredentialPath, UnknownService
from proxy.forwarding.permits import check, compile_permits, parse_permit
from proxy.forwarding.routing import Route, match, parse_target, resolve_host

HERE = Path(__file__).parent
ROUTES = [tuple(row) for row in json.loads((HERE / "routes.json").read_text())]
CREDENTIAL = [tuple(row) for row in json.loads((HERE / "credential.json").read_text())]
CATALOG = load_catalog()
EVERYTHING = compile_permits([parse_permit("*")])
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def routed(service_id: str, method: str, rest: str) -> Route:
    service = CATALOG.services[service_id]
    target = parse_target(f"/{service_id}{rest}".encode())
    assert target.service == service_id
    return match(target, method.encode(), service)


@pytest.mark.parametrize(
    ("service", "method", "rest", "host", "path"), ROUTES, ids=lambda value: str(value)[:60]
)
def test_addresses_lead_where_the_documents_say(service, method, rest, host, path):
    """Each documented way to address a service reaches the host and path that its own documents name (R26, R71)."""
    route = routed(service, method, rest)
    mark = "" if route.query is None else "?" + route.query.decode()
    assert (host, path) == (resolve_host(route, None).name, route.path.decode() + mark)


def test_every_service_has_routes():
    """No shipped service goes without checked addresses."""
    assert set(CATALOG.services) == {row[0] for row in ROUTES}


@pytest.mark.parametrize(("service", "rest"), CREDENTIAL, ids=lambda value: str(value)[:60])
def test_credential_paths_are_closed_for_every_method(service, rest):
    """What makes, changes or revokes credentials is refused for a key that may do anything, by any method."""
    for method in METHODS:
        with pytest.raises((CredentialPath, AmbiguousTarget, UnknownService)):
            check(EVERYTHING, CATALOG.services[service], None, method, routed(service, method, rest).path)


@pytest.mark.parametrize(
    ("service", "method", "rest", "host", "path"), ROUTES, ids=lambda value: str(value)[:60]
)
def test_documented_addresses_are_open(service, method, rest, host, path):
    """A documented address is not closed by accident: a key for the service may call it, unless it is a batch."""
    route = routed(service, method, rest)
    if not route.service.batch_paths.matches(route.path):
        check(compile_permits([parse_permit(service)]), route.service, None, method, route.path)
