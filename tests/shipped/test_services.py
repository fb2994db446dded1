"""The 32 shipped services against tables of what their providers document, taken down apart from the files."""

import json
import re
from pathlib import Path

import pytest

from proxy.catalog import check_config, load_catalog, packaged_directory
from proxy.catalog.jsonpath import first_at
from proxy.catalog.patterns import SpellingSet
from proxy.errors import ConfigurationError
from proxy.problems import PROBLEMS, problem

HERE = Path(__file__).parent
TITLES = {
    "airtable": "Airtable",
    "box": "Box",
    "clickup": "ClickUp",
    "discord": "Discord",
    "dropbox": "Dropbox",
    "github": "GitHub",
    "gmail": "Gmail",
    "google_analytics": "Google Analytics",
    "google_classroom": "Google Classroom",
    "google_search_console": "Google Search Console",
    "googlebigquery": "Google BigQuery",
    "googlecalendar": "Google Calendar",
    "googledocs": "Google Docs",
    "googledrive": "Google Drive",
    "googlesheets": "Google Sheets",
    "googleslides": "Google Slides",
    "hubspot": "HubSpot",
    "linear": "Linear",
    "linkedin": "LinkedIn",
    "microsoft_teams": "Microsoft Teams",
    "notion": "Notion",
    "one_drive": "Microsoft OneDrive",
    "outlook": "Outlook",
    "salesforce": "Salesforce",
    "share_point": "SharePoint",
    "slack": "Slack User",
    "slackbot": "Slack Bot",
    "splitwise": "Splitwise",
    "tiktok": "TikTok",
    "typeform": "Typeform",
    "wix": "Wix",
    "wrike": "Wrike",
}
CATALOG = load_catalog()
ALL_ON = load_catalog(
    extra_hosts=[f"{s.type_id}.{h.name}" for s in CATALOG.services.values() for h in s.hosts if not h.enabled]
)
SERVICES = [pytest.param(service, id=service.type_id) for service in CATALOG.services.values()]


def table(name: str):
    return json.loads((HERE / f"{name}.json").read_text())


HOSTS = table("hosts")
PARAMS = table("params")
PROVIDER = table("provider")
ROUTES = table("routes")
CREDENTIAL = table("credential")
EXAMPLES = [
    pytest.param(service, name, value, accepted, id=f"{service}-{name}-{value}")
    for service, params in PARAMS.items()
    for name, cases in params.items()
    for accepted, key in ((True, "accept"), (False, "reject"))
    for value in cases[key]
]


def test_ids_and_titles():
    """Exactly the 32 services, by the ids and titles that callers and people know (R167)."""
    assert {type_id: service.title for type_id, service in CATALOG.services.items()} == TITLES
    assert CATALOG.warnings == ()


def test_hosts_are_those_documented_and_no_others():
    """Every host of every service, whether it gets the token, and whether it is on, stands in the table (R75)."""
    found = {
        (service.type_id, host.name): (host.token == "add", host.enabled)
        for service in CATALOG.services.values()
        for host in service.hosts
    }
    assert {(service, name): (token, on) for service, name, _, token, on in HOSTS} == found


@pytest.mark.parametrize(
    ("service", "name", "base_url", "token", "on"), HOSTS, ids=lambda value: str(value)[:50]
)
def test_host_addresses(service, name, base_url, token, on):
    """A host's origin, with its base path where the documents name one, is the documented base address."""
    known = CATALOG.services[service]
    host = next(host for host in known.hosts if host.name == name)
    base = known.base_path if host is known.hosts[0] else host.base_path
    assert base_url in {host.origin.text, host.origin.text + base}


@pytest.mark.parametrize(("service", "name", "value", "accepted"), EXAMPLES)
def test_param_examples(service, name, value, accepted):
    """Each documented example of a connection_config value is taken or refused as the documents say (R76)."""
    known = ALL_ON.services[service]
    needed = {
        param.name: param.example for param in known.params.values() if param.required and param.name != name
    }
    if not accepted:
        with pytest.raises(ConfigurationError, match=rf"{service}: {name}: "):
            check_config(known, needed | {name: value})
        return
    config, metadata = check_config(known, needed | {name: value})
    kept = metadata if known.params[name].informational else config
    assert value == kept[name]


def test_every_param_has_examples():
    """No param goes without accepting and rejecting examples."""
    assert {s.type_id: set(s.params) for s in CATALOG.services.values() if s.params} == {
        service: set(params) for service, params in PARAMS.items()
    }
    assert all(cases["accept"] and cases["reject"] for params in PARAMS.values() for cases in params.values())


@pytest.mark.parametrize("service", SERVICES)
def test_provider_facts(service):
    """OAuth addresses, dialect, lifetimes, verify call, rate limits and default headers are the documented ones."""
    oauth, verify = service.oauth, service.verify
    assert PROVIDER[service.type_id] == {
        "family": oauth.family,
        "authorization_url": oauth.authorization_url,
        "token_url": oauth.token_url,
        "revoke_url": oauth.revoke_url,
        "scope_separator": oauth.scope_separator,
        "client_auth": oauth.client_auth,
        "pkce": oauth.pkce,
        "refresh": oauth.refresh,
        "access_lifetime_s": oauth.access_lifetime_s,
        "refresh_lifetime_s": oauth.refresh_lifetime_s,
        "scopes": list(oauth.scopes),
        "verify": [verify.method, verify.host or service.hosts[0].name, verify.path],
        "statuses": list(service.rate_limit.statuses),
        "limit_headers": PROVIDER[service.type_id]["limit_headers"],
        "headers": dict(service.headers),
    }
    assert set(PROVIDER[service.type_id]["limit_headers"]) == set(service.rate_limit.headers)


@pytest.mark.parametrize("service", SERVICES)
def test_routes_cover_every_host_and_rule(service):
    """Each host that is on and each rule has a row in the table of routes, so none is there untested."""
    rows = [row for row in ROUTES if row[0] == service.type_id]
    assert len(rows) >= 4
    assert {host.name for host in service.hosts if host.enabled} - {row[3] for row in rows} <= unnamed(
        service
    )
    for rule in service.rules:
        assert any(rule is first_rule(service, row[1], row[2]) for row in rows), rule.path.text


def unnamed(service) -> set[str]:
    """Hosts that no path leads to by itself: chosen by a value of the connection, or listed in the table by name."""
    return {host.name for host in service.hosts if host.when}


def first_rule(service, method: str, rest: str):
    for path in (rest.encode(), service.base_path.encode() + rest.encode()):
        for rule in service.rules:
            if rule.applies(method, path):
                return rule
        if service.is_under_root(path):
            break
    return None


@pytest.mark.parametrize("service", SERVICES)
def test_each_credential_pattern_is_proved(service):
    """Each credential pattern closes at least one row of the table, and every service has such paths."""
    assert service.credential_paths.patterns
    paths = []
    for _, rest in (row for row in CREDENTIAL if row[0] == service.type_id):
        plain = re.sub(r"^/~[a-z_]+", "", rest)
        paths += [plain.encode(), service.base_path.encode() + plain.encode()]
    open_ones = [
        pattern
        for pattern in service.credential_paths.patterns
        if not any(SpellingSet((pattern,)).matches(path) for path in paths)
    ]
    assert not open_ones


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("gmail", b"/batch"),
        ("gmail", b"/batch/gmail/v1"),
        ("googledrive", b"/batch/drive/v3"),
        ("googlecalendar", b"/batch/calendar/v3"),
        ("googlebigquery", b"/batch/bigquery/v2"),
        ("outlook", b"/v1.0/$batch"),
        ("outlook", b"/beta/%24batch"),
        ("microsoft_teams", b"/v1.0/$BATCH/"),
        ("one_drive", b"/v1.0/$batch"),
        ("share_point", b"/sites/a/_api/$batch"),
        ("salesforce", b"/services/data/v59.0/composite"),
        ("salesforce", b"/services/data/v59.0/composite/batch"),
        ("salesforce", b"/services/data/v59.0/Composite/graph/"),
        ("salesforce", b"/services/data/v59.0/tooling/composite"),
        ("box", b"/2.0/batch"),
    ],
)
def test_requests_inside_requests_are_known(service, path):
    """An endpoint that takes further requests in its body is declared, so that it stays closed until they are checked."""
    assert CATALOG.services[service].batch_paths.matches(path)


@pytest.mark.parametrize(
    "path", [b"/services/data/v59.0/composite/tree/Account", b"/services/data/v59.0/composite/sobjects"]
)
def test_collections_of_records_are_no_batches(path):
    """Salesforce calls that take many records, but no addresses, stay open."""
    assert not CATALOG.services["salesforce"].batch_paths.matches(path)


def test_hosts_that_services_share_are_fenced():
    """A service on a shared host has prefixes there, so that a calendar key reaches no drive."""
    shared = {"www.googleapis.com", "www.linkedin.com", "smba.trafficmanager.net"}
    for service in CATALOG.services.values():
        for host in service.hosts:
            if host.origin.is_fixed and host.origin.build({}, service=service.type_id).host in shared:
                assert host.prefixes, (service.type_id, host.name)


def test_memory_is_told_from_documents():
    """Nothing claims a live check; a host known only from memory is off, and one that is off is from memory."""
    for service in CATALOG.services.values():
        assert service.verified == "documents"
        for host in service.hosts:
            assert (host.verified == "memory") == (not host.enabled)


@pytest.mark.parametrize("service", SERVICES)
def test_presigned_hosts_never_swallow_a_host_that_gets_the_token(service):
    """A capability address cannot stand for a host that expects our token, except on its own signed paths."""
    for presigned in service.presigned:
        for host in service.hosts:
            if not host.origin.is_fixed:
                continue
            name = host.origin.build({}, service=service.type_id).host
            covers = name.endswith(presigned.host[1:]) if presigned.host[0] == "*" else name == presigned.host
            assert not covers or presigned.paths, (presigned.host, host.name)


@pytest.mark.parametrize("service", [one for one in SERVICES if one.values[0].errors is not None])
def test_error_shapes_are_filled_into_json(service):
    """Any error in the service's own shape is JSON that carries our code and our sentence, whatever is in that."""
    for kind, row in PROBLEMS.items():
        made = problem(kind('no "permit"\n'), request_id="r-1", plane="data", shape=service.errors)
        strings = list(texts(json.loads(made.body)))
        assert any(row.code in one for one in strings)
        assert any('no "permit"\n' in one for one in strings)
        assert not any("{" in one for one in strings)
        assert (b"Content-Type", b"application/json") in made.headers


def texts(value):
    """All strings in a JSON value."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from (value,) if isinstance(value, str) else (one for each in below for one in texts(each))


@pytest.mark.parametrize(
    ("service", "answer", "meaning"),
    [
        ("slack", (200, {"ok": False, "error": "token_expired"}), "expired"),
        ("slack", (200, {"ok": False, "error": "token_revoked"}), "dead"),
        ("slack", (200, {"ok": False, "error": "missing_scope"}), "never"),
        ("slack", (200, {"ok": True}), None),
        ("dropbox", (401, {"error": {".tag": "expired_access_token"}}), "expired"),
        ("dropbox", (401, {"error": {".tag": "missing_scope"}}), "never"),
        ("salesforce", (401, [{"errorCode": "INVALID_SESSION_ID"}]), "expired"),
        ("salesforce", (403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]), "never"),
        ("linear", (200, {"errors": [{"extensions": {"code": "AUTHENTICATION_ERROR"}}]}), "expired"),
        ("linear", (200, {"data": {}}), None),
        ("clickup", (401, {"ECODE": "OAUTH_027"}), "never"),
        ("clickup", (401, {"ECODE": "OAUTH_019"}), "dead"),
        ("linkedin", (401, {"serviceErrorCode": 65602}), "expired"),
        ("linkedin", (401, {"serviceErrorCode": 65601}), "dead"),
        ("tiktok", (401, {"error": {"code": "access_token_invalid"}}), "expired"),
        ("tiktok", (401, {"error": {"code": "scope_not_authorized"}}), "never"),
        ("github", (401, {"message": "Bad credentials"}), "expired"),
        ("github", (404, {}), "never"),
        ("typeform", (403, {"code": "AUTHENTICATION_FAILED"}), "expired"),
        ("typeform", (403, {"code": "FORBIDDEN"}), "never"),
        ("hubspot", (401, {"category": "EXPIRED_AUTHENTICATION"}), "expired"),
        ("wrike", (401, {"error": "not_authorized"}), "expired"),
        ("notion", (401, {"code": "unauthorized"}), "expired"),
        ("gmail", (403, {"error": {"code": 403}}), "never"),
        ("outlook", (401, {"error": {"code": "InvalidAuthenticationToken"}}), "expired"),
    ],
)
def test_dialects_of_failure(service, answer, meaning):
    """Each documented answer means what the provider says: refresh, a person, or neither."""
    failure = CATALOG.services[service].failure
    status, body = answer

    def fits(dialect) -> bool:
        if dialect.on != "api" or dialect.status != status:
            return False
        return not dialect.codes or str(first_at(body, dialect.path)) in dialect.codes

    found = [
        name for name in ("never", "dead", "expired") if any(fits(entry) for entry in getattr(failure, name))
    ]
    assert meaning == (found[0] if found else None)


@pytest.mark.parametrize(
    ("service", "where", "name", "replace"),
    [
        ("salesforce", "header", "X-SFDC-Session", True),
        ("salesforce", "soap", "sessionId", True),
        ("salesforce", "query", "oauth_token", False),
        ("tiktok", "header", "Access-Token", False),
        ("slack", "form", "token", False),
        ("slackbot", "query", "token", False),
        ("hubspot", "query", "hapikey", False),
        ("wrike", "query", "access_token", False),
        ("gmail", "query", "key", False),
        ("googledrive", "part", "authorization", False),
    ],
)
def test_key_places(service, where, name, replace):
    """Each place where a vendor's SDK puts its token is declared, and replaced where the service reads it there."""
    places = {(place.where, place.name): place.replace for place in CATALOG.services[service].key_places}
    assert replace is places[where, name]


def test_token_fields_of_their_own():
    """TikTok's business host takes Access-Token, Wix the bare token, everybody else Authorization: Bearer."""
    schemes = {
        (service.type_id, host.name): (host.auth or service.auth).scheme
        for service in CATALOG.services.values()
        for host in service.hosts
    }
    assert {key: scheme for key, scheme in schemes.items() if scheme != "bearer"} == {
        ("tiktok", "business"): "header",
        ("wix", "api"): "raw",
    }
    assert CATALOG.services["tiktok"].host("business").auth.header == "Access-Token"


def test_one_registration_per_family():
    """Services of one family share their OAuth addresses, so that one client id serves them all."""
    families: dict[str, set[tuple[str, str]]] = {}
    for service in CATALOG.services.values():
        oauth = service.oauth
        families.setdefault(oauth.family, set()).add((oauth.authorization_url, oauth.token_url))
    assert all(len(addresses) == 1 for addresses in families.values())
    assert sum(service.oauth.family == "google" for service in CATALOG.services.values()) == 10


@pytest.mark.parametrize("service", SERVICES)
def test_files_are_pleasant_and_honest(service):
    """A file begins with a comment, names its documentation, and has no line too long to read."""
    path = packaged_directory() / "services" / f"{service.type_id}.toml"
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any(" docs: " in line for line in lines[:4])
    prose = [line for line in lines if line.lstrip().startswith("#")]
    assert max(map(len, prose)) <= 120
