"""The read-only preset: reviewed lists of services, and how a call is held against them."""

import itertools
import re
from collections.abc import Iterator

import pytest

from proxy.catalog.loader import load_catalog
from proxy.catalog.model import ReadOnlyEntry, Service
from proxy.forwarding.permits import compile_permits, parse_permit
from proxy.forwarding.permits.marked import Finding, could_allow, judge, only_reads
from proxy.forwarding.permits.preset import Call, preset_of, says, why_no_preset

SERVICES = load_catalog().services
WITH_LIST = (
    "airtable", "github", "gmail", "googlecalendar", "googledrive", "googlesheets", "hubspot", "linear", "notion",
    "outlook", "salesforce", "slack",
)  # fmt: skip
ENTRIES = [(SERVICES[name], entry) for name in WITH_LIST for entry in SERVICES[name].read_only]


def call(service: Service, method: str, path: str, *, query: str | None = None, **more: object) -> Call:
    host = more.pop("host", None)
    made = Call(
        service,
        "main",
        method,
        path.encode(),
        host,
        query.encode() if query else None,
        method,
        has_body=False,
    )
    return made._replace(**more)  # type: ignore[arg-type]  # names of fields


def lets_through(one: Call) -> bool:
    return preset_of(one.service).entry_for(one) is not None


def example(entry: ReadOnlyEntry) -> str:
    """A path that the entry is meant for."""
    names = itertools.cycle(("a1", "b-2", "Cc_3"))
    return re.sub(r"\*\*|\*", lambda hit: "x/y" if hit.group() == "**" else next(names), entry.path.text)


def of(service: Service, entry: ReadOnlyEntry, method: str, path: str, **more: object) -> Call:
    return call(service, method, path, host=entry.host or None, **more)


def test_which_services_have_a_list():
    """These services have a reviewed list, each entry with an address of its provider's documentation, and no other has."""
    assert tuple(sorted(name for name, service in SERVICES.items() if service.read_only)) == WITH_LIST
    assert all(entry.source.startswith("https://") for _, entry in ENTRIES)


@pytest.mark.parametrize("name", WITH_LIST)
def test_each_entry(name):
    """What an entry names passes; the same path with another method, another ending, case, host or emptiness does not (R73)."""
    service = SERVICES[name]
    for entry in service.read_only:
        path, method = example(entry), min(entry.methods)
        for each in entry.methods:
            assert lets_through(of(service, entry, each, path)), entry
            assert not lets_through(of(service, entry, each.lower(), path)), entry
        for other in {"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "MERGE"} - entry.methods:
            assert not lets_through(of(service, entry, other, path)), entry
        assert not lets_through(call(service, method, path, host="elsewhere")), entry
        if method == "GET":
            assert not lets_through(of(service, entry, "GET", path, has_body=True)), entry
        for changed in look_alikes(service, entry, path):
            assert not lets_through(of(service, entry, method, changed)), (entry, changed)


def look_alikes(service: Service, entry: ReadOnlyEntry, path: str) -> Iterator[str]:
    """Paths that resemble the example and are none of the service's entries."""
    others = {one.path.text for one in service.read_only}
    if entry.path.text != "/**":
        yield f"/x{path}"
        yield path.swapcase()
    if not entry.path.text.endswith(("**", "/")):
        yield f"{path}\\..\\x"
        yield f"{path}%00/x%2Fy%2Fz%2Fw"
    empty = entry.path.text.replace("*", "")
    if empty != entry.path.text and empty not in others:
        yield empty


@pytest.mark.parametrize(
    ("service", "method", "path", "query"),
    [
        ("slack", "GET", "/api/chat.postMessage", "channel=C1&text=hi"),
        ("slack", "POST", "/api/conversations.open", None),
        ("slack", "GET", "/api/conversations.mark", None),
        ("slack", "GET", "/api/conversations.historyx", None),
        ("slack", "GET", "/api/files.getUploadURLExternal", None),
        ("slack", "GET", "/api/admin.users.list", None),
        ("slack", "GET", "/api/users.info/../chat.delete", None),
        ("slack", "GET", "/api/users.info%2F..%2Fchat.delete", None),
        ("slack", "GET", "/api/users.info;x", None),
        ("slack", "GET", "/api//users.info", None),
        ("slack", "GET", "/api/users%2Einfo", None),
        ("github", "GET", "/repos/o/r/actions/secrets", None),
        ("github", "GET", "/repos/o/r/actions/variables", None),
        ("github", "GET", "/repos/o/r/hooks", None),
        ("github", "GET", "/user/keys", None),
        ("github", "GET", "/repos/o/r/keys", None),
        ("github", "POST", "/repos/o/r/issues", None),
        ("github", "POST", "/search/issues", None),
        ("github", "PUT", "/user/starred/o/r", None),
        ("github", "GET", "/graphql", "query={viewer{login}}"),
        ("notion", "POST", "/v1/pages", None),
        ("notion", "POST", "/v1/databases", None),
        ("notion", "POST", "/v1/databases//query", None),
        ("notion", "POST", "/v1/databases/a%2Fb/query", None),
        ("notion", "GET", "/v1/file_uploads/a1", None),
        ("notion", "POST", "/v1/comments", None),
        ("linear", "GET", "/graphql", "query={viewer{id}}"),
        ("gmail", "POST", "/gmail/v1/users/me/messages/send", None),
        ("gmail", "POST", "/gmail/v1/users/me/messages/a1/modify", None),
        ("gmail", "GET", "/gmail/v1/users/me/settings/forwardingAddresses", None),
        ("gmail", "GET", "/gmail/v1/users/me/settings/cse/keypairs", None),
        ("googlecalendar", "POST", "/calendar/v3/calendars/primary/events/watch", None),
        ("googlecalendar", "POST", "/calendar/v3/calendars/primary/events/quickAdd", "text=lunch"),
        ("googledrive", "GET", "/drive/v3/files/generateCseToken", None),
        ("googledrive", "GET", "/drive/v3/files/GenerateCseToken", None),
        ("googledrive", "GET", "/drive/v3/files/generateCse%54oken", None),
        ("googledrive", "GET", "/drive/v2/files/a1", "updateViewedDate=true"),
        ("googledrive", "POST", "/drive/v3/files/a1/watch", None),
        ("googledrive", "POST", "/drive/v3/files/a1/copy", None),
        ("googlesheets", "POST", "/v4/spreadsheets/a1:batchUpdate", None),
        ("googlesheets", "POST", "/v4/spreadsheets/a1/values:batchUpdate", None),
        ("googlesheets", "POST", "/v4/spreadsheets/a1/values/A1:append", None),
        ("googlesheets", "POST", "/v4/spreadsheets/a1/values:batchClearByDataFilter", None),
        ("hubspot", "POST", "/crm/v3/objects/contacts", None),
        ("hubspot", "POST", "/crm/v3/objects/contacts/batch/create", None),
        ("hubspot", "POST", "/crm/v3/objects//search", None),
        ("hubspot", "GET", "/files/v3/files/1/signed-url", None),
        ("hubspot", "GET", "/oauth/v1/access-tokens/x", None),
        ("salesforce", "GET", "/services/apexrest/Close", None),
        ("salesforce", "GET", "/services/data/v62.0/tooling/executeAnonymous", "anonymousBody=delete+x;"),
        ("salesforce", "GET", "/services/data/v62.0/query", "q=SELECT+Id+FROM+Contact+FOR+VIEW"),
        ("salesforce", "GET", "/services/data/v62.0/query", "q=SELECT%20Id%20FROM%20Contact%20for%0A%09reference"),
        ("salesforce", "GET", "/services/data/v62.0/query/", "q=SELECT+Id+FROM+KB__kav+UPDATE%20%20VIEWSTAT"),
        ("salesforce", "GET", "/services/data/v62.0/search", "q=FIND+%7Ba%7D+update+tracking"),
        ("salesforce", "GET", "/services/data/v62.0/parameterizedSearch", "q=a&updateTracking=true"),
        ("salesforce", "GET", "/services/data/v62.0/query", "q=SELECT+ConsumerSecret+FROM+AuthProvider"),
        ("salesforce", "GET", "/services/data/v62.0/sobjects/authprovider/a1", None),
        ("salesforce", "POST", "/services/data/v62.0/query", "q=SELECT+Id+FROM+Contact"),
        ("salesforce", "POST", "/services/data/v62.0/sobjects/Account", None),
        ("outlook", "POST", "/v1.0/me/sendMail", None),
        ("outlook", "POST", "/v1.0/me/messages", None),
        ("outlook", "POST", "/v1.0/me/events/a1/accept", None),
        ("outlook", "GET", "/beta/me/messages", None),
        ("outlook", "GET", "/v1.0/me/mailboxSettings", None),
        ("airtable", "POST", "/v0/appA/Table", None),
        ("airtable", "GET", "/v0/bases/appA/webhooks", None),
        ("airtable", "POST", "/v0/bases/appA/webhooks", None),
        ("airtable", "POST", "/v0/appA/Table/listRecordsx", None),
        ("airtable", "POST", "/v0/appA/Table/rec1/comments", None),
    ],
)  # fmt: skip
def test_look_alikes_that_write_or_reveal(service, method, path, query):
    """Calls that write by GET, that only look like reading, or that answer with credentials are in no list (R73)."""
    assert not lets_through(call(SERVICES[service], method, path, query=query))


@pytest.mark.parametrize(
    ("service", "method", "path", "query"),
    [
        ("salesforce", "GET", "/services/data/v62.0/query/", "q=SELECT+Id,Name+FROM+Contact+WHERE+Name='for'"),
        ("salesforce", "GET", "/services/data/v62.0/query/01gD0000002HU6KIAW-2000", None),
        ("googlecalendar", "GET", "/calendar/v3/calendars/en.usa%23holiday@group.v.calendar.google.com/events", None),
        ("googlesheets", "GET", "/v4/spreadsheets/a1/values/'Q1%20plan'!A1%3AB2", None),
        ("github", "GET", "/repos/o/r/contents/docs/a%20b.json", "ref=main"),
        ("github", "GET", "/repos/o/r/contents/", None),
        ("outlook", "GET", "/v1.0/me/messages/AAMkAD%3D", "$select=subject"),
        ("notion", "HEAD", "/v1/pages/0c6b5f6e-7f2a-4a4e-9a6e-000000000000", None),
    ],
)  # fmt: skip
def test_reading_as_clients_spell_it(service, method, path, query):
    """Encoded ids, ranges and file names that have one meaning pass."""
    assert lets_through(call(SERVICES[service], method, path, query=query))


def test_an_override_does_not_carry_a_query_past_the_words():
    """Where words of the query string are judged, a POST that says it is a GET is not: its query may be in the body (R73)."""
    one = call(SERVICES["salesforce"], "GET", "/services/data/v62.0/query", query="_HttpMethod=GET")
    assert not lets_through(one._replace(sent="POST", has_body=True))
    drive = call(SERVICES["googledrive"], "GET", "/drive/v3/files")
    assert lets_through(drive._replace(sent="POST", has_body=True))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"q=FOR+VIEW", True),
        (b"q=for%20%20view", True),
        (b"q=for%2520view", True),
        (b"q=For%C2%A0View", True),
        (b"q=f%6Fr%0D%0Aview", True),
        (b"q=forview", False),
        (b"for=1&review=2", False),
        (b"", False),
        (None, False),
    ],
)
def test_words_of_a_query_string(query, found):
    """Words are found in any case, spacing and encoding."""
    assert says(query, ("for view",)) is found


def found(permits: list[str], one: Call) -> Finding:
    return judge(compile_permits(map(parse_permit, permits)), one)


READ = call(SERVICES["slack"], "GET", "/api/users.list")
WRITE = call(SERVICES["slack"], "POST", "/api/chat.postMessage")


@pytest.mark.parametrize(
    ("permits", "one", "passes", "observed"),
    [
        (["slack:read-only"], READ, True, False),
        (["slack:read-only"], WRITE, False, False),
        (["slack:read-only,GET"], READ, True, False),
        (["slack:read-only,POST"], READ, False, False),
        (["slack:read-only:/api/users.*"], READ, True, False),
        (["slack:read-only:/api/chat.*"], READ, False, False),
        (["slack@other:read-only"], READ, False, False),
        (["slack:read-only", "slack:POST:/api/chat.postMessage"], WRITE, True, False),
        (["slack:observe"], WRITE, True, True),
        (["slack:observe,read-only"], WRITE, False, True),
        (["slack:observe,read-only"], READ, True, True),
        (["slack:observe:/api/users.*"], WRITE, False, True),
        (["slack@other:observe"], WRITE, False, False),
        (["*:observe,GET"], WRITE, False, True),
        (["github:read-only"], READ, False, False),
    ],
)
def test_findings(permits, one, passes, observed):
    """Words narrow their own permit only; what an observing permit would refuse is told apart from what passes."""
    finding = found(permits, one)
    assert (finding.refused is None, finding.observed) == (passes, observed)


def test_a_service_without_a_list_lets_nothing_pass():
    """Should a list be taken away, a key that reads by it does nothing, also by way of '*'."""
    one = call(SERVICES["discord"], "GET", "/api/v10/users/@me")
    assert found(["discord:read-only"], one).refused is not None
    assert found(["*:read-only"], one).refused is not None


def test_graphql_is_still_to_be_looked_at():
    """An entry of GraphQL is given back with the fields that its documents must not select."""
    document = found(
        ["linear:read-only"], call(SERVICES["linear"], "POST", "/graphql", has_body=True)
    ).document
    assert document is not None
    assert "secret" in document.without_fields


def test_what_could_be_allowed():
    """Before a connection is known, a call goes on only if some connection could make it."""
    permits = compile_permits(map(parse_permit, ["slack@work:read-only", "slack@home:observe"]))
    unknown = READ._replace(connection=None)
    assert could_allow(permits, unknown)
    assert could_allow(permits, WRITE._replace(connection=None))
    assert not could_allow(
        compile_permits([parse_permit("slack@work:read-only")]), WRITE._replace(connection=None)
    )


@pytest.mark.parametrize(
    ("permits", "reads"),
    [
        (["slack:read-only"], True),
        (["slack:read-only", "slack:POST"], False),
        (["slack:observe,read-only"], False),
        (["github"], False),
    ],
)
def test_only_reads(permits, reads):
    """A key only reads from a service when nothing but enforced read-only permits is about it."""
    assert only_reads(compile_permits(map(parse_permit, permits)), "slack") is reads


@pytest.mark.parametrize(
    ("permit", "names"),
    [
        ("slack:read-only", ""),
        ("discord", ""),
        ("discord:read-only", "discord"),
        ("*:read-only", "wrike"),
        ("nothing:read-only", ""),
    ],
)
def test_why_no_preset(permit, names):
    """A service without a list refuses the preset by name; so does '*', which would name such services."""
    reason = why_no_preset(parse_permit(permit), SERVICES)
    assert names in reason
    assert bool(names) is bool(reason)
