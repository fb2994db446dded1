"""Targets: which service, host and upstream path they mean, by their raw bytes."""

import pytest
from support.steps import BOX, BY_ID, CALENDAR, DROPBOX, GITHUB, SLACK, WRIKE, host, rule, service

from proxy.errors import AmbiguousTarget, BadRequest, UnknownService
from proxy.forwarding.routing import Target, match, parse_target, resolve_host, rooted_target


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"/slack/a/b?x=1", ("slack", None, None, b"/a/b", b"x=1"), id="plain"),
        pytest.param(b"/slack", ("slack", None, None, b"", None), id="R74-bare"),
        pytest.param(b"/slack/", ("slack", None, None, b"/", None), id="R74-slash"),
        pytest.param(b"/slack?", ("slack", None, None, b"", b""), id="R24-bare-question-mark"),
        pytest.param(b"/slack/a?b?c&", ("slack", None, None, b"/a", b"b?c&"), id="R24-second-question-mark"),
        pytest.param(b"/slack@work/a", ("slack", "work", None, b"/a", None), id="connection"),
        pytest.param(b"/slack:443/a", ("slack", None, None, b"/a", None), id="port"),
        pytest.param(b"/slack@work:443/a", ("slack", "work", None, b"/a", None), id="connection-port"),
        pytest.param(b"/slack/~files/a", ("slack", None, "files", b"/a", None), id="host"),
        pytest.param(b"/slack@w/~files", ("slack", "w", "files", b"", None), id="connection-host"),
        pytest.param(b"/slack/a/~files", ("slack", None, None, b"/a/~files", None), id="tilde-later"),
        pytest.param(b"/slack%40work/a", ("slack%40work", None, None, b"/a", None), id="encoded-at-is-no-at"),
        pytest.param(b"/slack%2fa", ("slack%2fa", None, None, b"", None), id="R71-encoded-slash"),
        pytest.param(b"/slack;x/a", ("slack;x", None, None, b"/a", None), id="R71-matrix"),
        pytest.param(b"/SLACK/a", ("SLACK", None, None, b"/a", None), id="R71-case"),
        pytest.param(b"//slack/a", ("", None, None, b"/slack/a", None), id="R71-empty-first-segment"),
        pytest.param(b"/slackbot/a", ("slackbot", None, None, b"/a", None), id="R74-boundary"),
        pytest.param(b"/sl%61ck/a", ("sl%61ck", None, None, b"/a", None), id="R71-encoded-letter"),
        pytest.param(
            b"/slack/A1%3AB2/%2F%5C%00", ("slack", None, None, b"/A1%3AB2/%2F%5C%00", None), id="R27"
        ),
    ],
)
def test_targets_taken_apart(raw, expected):
    """The first raw segment is the service, literally; nothing is decoded (R24, R27, R71, R74)."""
    assert Target(*expected) == parse_target(raw)


@pytest.mark.parametrize(
    "path",
    [
        b"/slack/../github",
        b"/slack/./x",
        b"/slack/..",
        b"/..",
        b"/slack/%2e%2e/github",
        b"/slack/%2E./x",
        b"/slack/.%2e/x",
        b"/slack/%252e%252e/x",
        b"/slack/%252e./x",
        b"/slack/..%2fx",
        b"/slack/..%252fx",
        b"/slack/a%2f..%2fx",
        b"/slack/..\\x",
        b"/slack/a\\..\\x",
        b"/slack/a%5c..%5cx",
        b"/slack/a%255c%252e%252e",
        b"/slack/..;x=1/y",
        b"/slack/..%3bx/y",
        b"/slack/.;/y",
        b"/slack/..%00/y",
        b"/slack/..%20/y",
        b"/slack/%09../y",
        b"/slack/%c0%ae%c0%ae/y",
        b"/slack/a%c0%af..",
        b"/%2e%2e/slack",
        b"/slack/~files/../x",
    ],
)
def test_dot_segments_are_refused(path):
    """No dot segment passes, plain or encoded, alone or beside what servers drop from segments (R72)."""
    with pytest.raises(AmbiguousTarget):
        parse_target(path)
    with pytest.raises(AmbiguousTarget):
        rooted_target(path, "salesforce")


@pytest.mark.parametrize(
    "path", [b"/slack/...", b"/slack/.well-known/x", b"/slack/a..b/c.", b"/slack/root:/a.txt:/content", b"/slack/a?x=/../b",
             b"/sites/https%3A%2F%2Fexample.com%2F/x", b"/slack/..a", b"/slack/a%2eb", b"/slack/%2520"],
)  # fmt: skip
def test_dots_that_are_no_dot_segments(path):
    """Dots inside of names, and anything in the query, are nobody's business (R24, R27)."""
    assert parse_target(path)


@pytest.mark.parametrize("raw", [b"slack/x", b"", b"*", b"/slack@/x", b"/slack/~/x", b"/slack@:443/x"])
def test_malformed_targets(raw):
    """A target that is no path, or names nothing after ``@`` or ``~``, is a bad request."""
    with pytest.raises(BadRequest):
        parse_target(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            b"/services/data?q=1", ("salesforce", None, None, b"/services/data", b"q=1"), id="rooted"
        ),
        pytest.param(b"/salesforce/services", ("salesforce", None, None, b"/services", None), id="own-id"),
        pytest.param(b"/salesforce@eu/x", ("salesforce", "eu", None, b"/x", None), id="own-id-connection"),
        pytest.param(b"/github/user", ("github", None, None, b"/user", None), id="other-known-id"),
        pytest.param(b"/~login/x", ("salesforce", None, "login", b"/x", None), id="host"),
        pytest.param(b"/", ("salesforce", None, None, b"/", None), id="root"),
        pytest.param(b"/users/@me", ("salesforce", None, None, b"/users/@me", None), id="at-sign"),
        pytest.param(b"/a@/b", ("salesforce", None, None, b"/a@/b", None), id="at-sign-in-first-segment"),
    ],
)
def test_rooted_targets(raw, expected):
    """On a service's own listener its id may be left out; a literal id always wins (design: addresses)."""
    assert Target(*expected) == rooted_target(raw, "salesforce", BY_ID)


def _matched(chosen, rest, method=b"GET"):
    query_free = parse_target(b"/" + chosen.type_id.encode() + rest)
    route = match(query_free, method, chosen)
    return (route.host.name if route.host else None), route.path


@pytest.mark.parametrize(
    ("chosen", "method", "rest", "host_name", "path"),
    [
        pytest.param(SLACK, b"GET", b"/chat.postMessage", "api", b"/api/chat.postMessage", id="base-in-front"),
        pytest.param(SLACK, b"GET", b"/api/chat.postMessage", "api", b"/api/chat.postMessage", id="under-root"),
        pytest.param(SLACK, b"GET", b"/api.test", "api", b"/api/api.test", id="R74-not-under-root"),
        pytest.param(SLACK, b"GET", b"", "api", b"/api", id="nothing-is-the-base"),
        pytest.param(SLACK, b"GET", b"/", "api", b"/api", id="slash-is-the-base"),
        pytest.param(SLACK, b"GET", b"/api", "api", b"/api", id="base-itself"),
        pytest.param(SLACK, b"GET", b"//api/x", "api", b"/api/x", id="R26-seam"),
        pytest.param(SLACK, b"GET", b"///x//y/", "api", b"/api/x//y/", id="R26-only-the-seam"),
        pytest.param(SLACK, b"GET", b"/files-pri/T/x", "files", b"/files-pri/T/x", id="rule"),
        pytest.param(SLACK, b"GET", b"/~files/files-pri/x", "files", b"/files-pri/x", id="named-host"),
        pytest.param(SLACK, b"GET", b"/~files", "files", b"/", id="named-host-root"),
        pytest.param(SLACK, b"GET", b"/~api/x", "api", b"/x", id="named-host-has-own-base"),
        pytest.param(DROPBOX, b"POST", b"/2/files/upload", "content", b"/2/files/upload", id="rule-on-rest"),
        pytest.param(DROPBOX, b"POST", b"/files/upload", "content", b"/2/files/upload", id="rule-on-based-path"),
        pytest.param(DROPBOX, b"GET", b"/2/files/upload", "api", b"/2/files/upload", id="rule-other-method"),
        pytest.param(DROPBOX, b"POST", b"/2/files/upload_session/x", "api", b"/2/files/upload_session/x", id="no-rule"),
        pytest.param(BOX, b"POST", b"/files/content", "upload", b"/api/2.0/files/content", id="prepend-on-based"),
        pytest.param(BOX, b"POST", b"/2.0/files/content", "upload", b"/api/2.0/files/content", id="prepend"),
        pytest.param(BOX, b"OPTIONS", b"/2.0/files/content", "api", b"/2.0/files/content", id="prepend-other-method"),
        pytest.param(BOX, b"PUT", b"/api/2.0/files/upload_sessions/1", "upload", b"/api/2.0/files/upload_sessions/1", id="box"),
        pytest.param(GITHUB, b"GET", b"/api/v3/user", "api", b"/user", id="strip"),
        pytest.param(GITHUB, b"GET", b"/api/v3//user", "api", b"/user", id="strip-seam"),
        pytest.param(GITHUB, b"GET", b"/api/v3/", "api", b"/", id="strip-all"),
        pytest.param(GITHUB, b"POST", b"/api/graphql", "api", b"/graphql", id="strip-exact"),
        pytest.param(GITHUB, b"GET", b"", "api", b"/", id="no-base"),
        pytest.param(GITHUB, b"GET", b"/search/a%2Fb", "api", b"/search/a%2Fb", id="R26-raw"),
        pytest.param(CALENDAR, b"GET", b"/users/me", "api", b"/calendar/v3/users/me", id="shared-host"),
        pytest.param(CALENDAR, b"POST", b"/batch/calendar/v3", "api", b"/batch/calendar/v3", id="root-without-slash"),
        pytest.param(CALENDAR, b"GET", b"", "api", b"/calendar/v3", id="base-of-shared-host"),
        pytest.param(WRIKE, b"GET", b"/tasks", None, b"/api/v4/tasks", id="host-by-connection"),
    ],
)  # fmt: skip
def test_routes(chosen, method, rest, host_name, path):
    """Rules, then base path, then rules again; bytes of the rest as they came (R26, R74)."""
    assert (host_name, path) == _matched(chosen, rest, method)


def test_default_host_by_connection_config():
    """Where the default host depends on the connection, its config chooses; otherwise nothing is asked of it."""
    route = match(parse_target(b"/wrike/tasks"), b"GET", WRIKE)
    assert resolve_host(route, {"region": "eu"}).name == "eu"
    assert resolve_host(route, None).name == "us"
    named = match(parse_target(b"/wrike/~us/api/v4/tasks"), b"GET", WRIKE)
    assert resolve_host(named, {"region": "eu"}).name == "us"


@pytest.mark.parametrize("rest", [b"/~nowhere/x", b"/~off/x", b"/ruled/x"])
def test_hosts_that_are_not_there(rest):
    """A host that the service has not, or that is switched off, is not guessed."""
    chosen = service(
        "s",
        host("a", "a.example"),
        host("off", "b.example", enabled=False),
        rules=(rule("/ruled/**", "off"),),
    )
    with pytest.raises(UnknownService):
        _matched(chosen, rest)


@pytest.mark.parametrize(
    "rest",
    [
        b"/~api/drive/v3/files",
        b"/~api/calendar/v33",
        b"/batchx/~",
        b"/~api/",
        b"/~api/calendar%2Fv3/x",
        b"/batch",
    ],
)
def test_shared_hosts_serve_own_prefixes_only(rest):
    """On a host that services share, a service reaches its own prefixes and nothing beside them (R71)."""
    chosen = service(
        "s", host("api", "www.googleapis.com", prefixes=("/calendar/v3/",)), roots=("/batch", "/batchx/")
    )
    with pytest.raises(UnknownService):
        _matched(chosen, rest)


def test_prefixes_hold_for_hosts_chosen_by_config():
    """The prefixes of a default host that the connection chooses are checked once it is known."""
    chosen = service(
        "s", host("a", "a.example"), host("b", "b.example", when={"r": "b"}, prefixes=("/only/",))
    )
    route = match(parse_target(b"/s/else"), b"GET", chosen)
    assert resolve_host(route, {}).name == "a"
    with pytest.raises(UnknownService):
        resolve_host(route, {"r": "b"})


@pytest.mark.parametrize(
    ("chosen", "rest"),
    [
        (GITHUB, b"/repos/a/b/releases/1/%61ssets"),
        (GITHUB, b"/repos/a/b%2Fc/releases/1/assets"),
        (DROPBOX, b"/2/files/%75pload"),
        (DROPBOX, b"/files/%75pload"),
        (SLACK, b"/files-pri%2Fx"),
    ],
)
def test_paths_that_read_differently_decoded(chosen, rest):
    """A path whose decoded form would choose another host is refused (R71, R73)."""
    with pytest.raises(AmbiguousTarget):
        _matched(chosen, rest, b"POST")


def test_changed_services_are_not_remembered():
    """After a reload the new service's facts count, whatever was remembered of the old one (R160)."""
    before = service("s", host("a", "a.example"), base_path="/v1", roots=("/v1/",))
    after = service("s", host("a", "a.example"), base_path="/v2", roots=("/v2/",))
    assert [_matched(each, b"/x")[1] for each in (before, after, before)] == [b"/v1/x", b"/v2/x", b"/v1/x"]
