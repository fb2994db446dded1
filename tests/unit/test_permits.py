"""Permits: their grammar, their verdicts, and what no key may call."""

import pytest
from support.steps import CALENDAR, SALESFORCE, SLACK, head, host, service

from proxy.catalog.patterns import SpellingSet
from proxy.errors import AmbiguousTarget, CredentialPath, NotPermitted
from proxy.forwarding.permits import (
    OVERRIDE_HEADERS,
    check,
    compile_permits,
    effective_method,
    parse_permit,
)


@pytest.mark.parametrize(
    "text",
    [
        "slack",
        "*",
        "slack@work",
        "slack:GET",
        "slack:GET,POST",
        "slack:*:/api/chat.*",
        "slack@work:GET:/api/**",
        "*:GET",
        "google_analytics:POST:/v1beta/properties/*:runReport",
        "one_drive:GET:/v1.0/me/drive/root:/a:/content",
        "slack:read-only",
        "slack@work:observe,read-only",
        "slack:read-only,GET:/api/users.*",
        "slack:observe",
    ],
)
def test_permits_read_back(text):
    """A permit prints as the text that it was made of (design: permits)."""
    assert text == str(parse_permit(text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "''"),
        ("Slack", "'Slack'"),
        ("slack/x", "'slack/x'"),
        ("@work", "''"),
        ("slack@", "connection"),
        ("slack@a b", "'a b'"),
        ("*@work", "'*'"),
        ("slack:", "methods"),
        ("slack:get", "'get'"),
        ("slack:GET,", "''"),
        ("slack:readonly", "read-only"),
        ("slack:*,read-only", "'*'"),
        ("slack:GET:", "path"),
        ("slack::/x", "methods"),
        ("slack:GET:x", "'x'"),
        ("slack:GET:/a?b", "'/a?b'"),
        ("slack:GET:/é", "/é"),
    ],
)
def test_malformed_permits(text, names):
    """What is wrong with a permit is named (R160)."""
    with pytest.raises(ValueError) as caught:
        parse_permit(text)
    assert names in str(caught.value)


@pytest.mark.parametrize(
    ("permits", "call", "allowed"),
    [
        pytest.param(["slack"], ("slack", "work", "POST", b"/api/x"), True, id="whole-service"),
        pytest.param(["slack"], ("slackbot", None, "GET", b"/api/x"), False, id="R74-other-service"),
        pytest.param(["*"], ("github", None, "GET", b"/"), True, id="all-services"),
        pytest.param(["*:GET"], ("github", None, "GET", b"/"), True, id="all-services-method"),
        pytest.param(["*:GET"], ("github", None, "POST", b"/"), False, id="all-services-other-method"),
        pytest.param(["*:GET", "slack:POST"], ("slack", None, "GET", b"/"), True, id="star-adds-to-named"),
        pytest.param([], ("slack", None, "GET", b"/"), False, id="none"),
        pytest.param(["slack@work"], ("slack", "work", "GET", b"/"), True, id="connection"),
        pytest.param(["slack@work"], ("slack", "home", "GET", b"/"), False, id="other-connection"),
        pytest.param(["slack@work"], ("slack", None, "GET", b"/"), False, id="connection-unknown-yet"),
        pytest.param(["slack:GET"], ("slack", None, "get", b"/"), False, id="R19-case-of-methods"),
        pytest.param(["slack:GET"], ("slack", None, "HEAD", b"/"), False, id="head-is-not-get"),
        pytest.param(["slack:*:/api/chat.*"], ("slack", None, "POST", b"/api/chat.postMessage"), True, id="path"),
        pytest.param(["slack:*:/api/chat.*"], ("slack", None, "POST", b"/api/chat.x/y"), False, id="star-in-segment"),
        pytest.param(["slack:*:/api/**"], ("slack", None, "POST", b"/api/a/b"), True, id="double-star"),
        pytest.param(["slack:*:/api/**"], ("slack", None, "POST", b"/apix"), False, id="R74-boundary"),
        pytest.param(["slack:GET:/a", "slack:POST:/b"], ("slack", None, "GET", b"/b"), False, id="parts-belong-together"),
        pytest.param(["slack:*:/a%2Fb"], ("slack", None, "GET", b"/c%20d"), False, id="encoded-elsewhere"),
        pytest.param(["slack:*:/v/**"], ("slack", None, "GET", b"/v/A1%3AB2"), True, id="encoded-same-verdict"),
    ],
)  # fmt: skip
def test_verdicts(permits, call, allowed):
    """A key may call what one of its permits covers, and nothing else (R85, R90)."""
    assert allowed is compile_permits(map(parse_permit, permits)).allows(*call)


@pytest.mark.parametrize(
    ("permit", "path"),
    [
        ("slack:*:/api/*", b"/api/a%2Fb"),
        ("slack:*:/api/chat.*", b"/api/%63hat.x"),
        ("slack:*:/api/x", b"/%61pi/x"),
    ],
)
def test_raw_and_decoded_must_agree(permit, path):
    """A path that is permitted in one reading only is refused (R73)."""
    with pytest.raises(AmbiguousTarget):
        compile_permits([parse_permit(permit)]).allows("slack", None, "GET", path)


def test_what_must_be_resolved_first():
    """A decider tells whether it needs the connection's name, and whether it is about the service at all."""
    decider = compile_permits(map(parse_permit, ["slack@work", "github"]))
    assert decider.names_connections("slack")
    assert not decider.names_connections("github")
    assert decider.reaches("github")
    assert not decider.reaches("notion")
    assert not decider.names_connections("notion")


@pytest.mark.parametrize(
    "path",
    [b"/api/auth.revoke", b"/API/auth.revoke", b"/api//auth.revoke", b"/api/auth%2erevoke", b"/api/auth%252Erevoke",
     b"/api/auth.revoke/", b"/api;x/auth.revoke", b"/api\\auth.revoke", b"/oauth/v2/authorize", b"/api/oauth.v2.access"],
)  # fmt: skip
def test_credential_paths_are_closed(path):
    """What touches credentials is closed to every key, in every spelling, also when asked again (design: never)."""
    everything = compile_permits([parse_permit("*")])
    for _ in range(2):
        with pytest.raises(CredentialPath):
            check(everything, SLACK, None, "POST", path)


def test_batches_are_closed():
    """Batch endpoints are closed: their parts cannot be judged here."""
    with pytest.raises(CredentialPath):
        check(compile_permits([parse_permit("*")]), CALENDAR, None, "POST", b"/batch/calendar/v3")


def test_check_refuses_and_allows():
    """A call outside of the permits is refused with the service's name, one inside passes (R85)."""
    decider = compile_permits([parse_permit("slack:GET")])
    check(decider, SLACK, None, "GET", b"/api/x")
    with pytest.raises(NotPermitted) as caught:
        check(decider, SLACK, None, "POST", b"/api/x")
    assert caught.value.service == "slack"


def test_closed_paths_follow_a_reload():
    """Credential paths of a changed service count at once (R160)."""
    decider = compile_permits([parse_permit("*")])
    check(decider, service("s", host("a", "a.example")), None, "GET", b"/x")
    with pytest.raises(CredentialPath):
        check(
            decider,
            service("s", host("a", "a.example"), credential_paths=SpellingSet(("/x",))),
            None,
            "GET",
            b"/x",
        )


@pytest.mark.parametrize("name", sorted(OVERRIDE_HEADERS))
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_override_headers_are_refused(name, method):
    """A method override that the service's file does not declare is refused, look-alikes too (design: permits)."""
    for spelt in (name, name.upper(), name.replace(b"-", b"_"), name.replace(b"-", b".")):
        with pytest.raises(NotPermitted):
            effective_method(head(method, "/slack/x", (spelt, b"DELETE")), None, SLACK)


@pytest.mark.parametrize(
    "query",
    [b"_method=DELETE", b"_METHOD=DELETE", b"a=1&_HttpMethod=PATCH", b"%5Fmethod=DELETE", b"_%6dethod=DELETE", b"a;_method=x",
     b"x-http-method-override=PUT", b"$httpMethod=PUT", b"_method"],
)  # fmt: skip
def test_override_parameters_are_refused(query):
    """The same for query parameters, in every case and encoding (design: permits)."""
    with pytest.raises(NotPermitted):
        effective_method(head("POST"), query, SLACK)


@pytest.mark.parametrize(
    "query", [None, b"", b"method=x", b"a_method=1", b"payment_method=card", b"m=_method", b"%6dethod=1"]
)
def test_other_parameters_are_no_overrides(query):
    """Parameters that merely look similar, and values, do not change the method."""
    assert effective_method(head("PATCH"), query, SLACK) == "PATCH"


def test_declared_override_counts_on_post():
    """A declared override is the method that permits are judged on (design: permits)."""
    assert effective_method(head("POST"), b"_HttpMethod=patch", SALESFORCE) == "PATCH"


@pytest.mark.parametrize(
    ("method", "query"),
    [("DELETE", b"_HttpMethod=GET"), ("GET", b"_HttpMethod=GET"), ("POST", b"_HttpMethod=GET&_HttpMethod=DELETE"),
     ("POST", b"_HttpMethod="), ("POST", b"_HttpMethod=G%20T"), ("POST", b"_HttpMethod=PATCH&_method=PATCH")],
)  # fmt: skip
def test_unclear_overrides_are_refused(method, query):
    """An override elsewhere than on POST, or that says two things, would be judged as what is not done."""
    with pytest.raises(NotPermitted):
        effective_method(head(method), query, SALESFORCE)


@pytest.mark.parametrize(
    "query",
    [b"a=1;_HttpMethod=GET", b"_HttpMethod=GET;a=1", b"-HttpMethod=GET", b".HttpMethod=GET", b"_httpmethod=GET",
     b"%5FHttpMethod=GET", b"_HttpMethod=GET&-HttpMethod=GET"],
)  # fmt: skip
def test_what_the_service_overlooks_is_no_override(query):
    """A look-alike of a declared parameter, which the service leaves a POST, is refused (R73)."""
    with pytest.raises(NotPermitted):
        effective_method(head("POST"), query, SALESFORCE)


LONG_GETS = service("mail", host("a", "a.example"), method_override=("X-HTTP-Method-Override",))


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"X-HTTP-Method-Override=GET", ()),
        (None, ((b"X-HTTP-Method-Override", b"GET"), (b"Connection", b"X-HTTP-Method-Override"))),
        (None, ((b"X_HTTP_Method_Override", b"GET"),)),
        (None, ((b"X.HTTP.Method.Override", b"GET"),)),
        (None, ((b"X-HTTP-Method", b"GET"),)),
    ],
)
def test_override_header_counts_only_as_that_header_and_only_if_it_is_sent(query, fields):
    """A declared header is no parameter, has no other spelling, and may not be one that Connection drops (R73)."""
    with pytest.raises(NotPermitted):
        effective_method(head("POST", "/mail/x", *fields), query, LONG_GETS)
    sent = head("POST", "/mail/x", (b"X-HTTP-Method-Override", b"GET"))
    assert effective_method(sent, None, LONG_GETS) == "GET"


def test_remembered_verdicts_are_bounded_and_distinct():
    """What is remembered of verdicts depends on the whole call, and never grows without end (R41)."""
    decider = compile_permits([parse_permit("slack@work:GET:/a*")])
    for turn in range(2):
        assert decider.allows("slack", "work", "GET", b"/a"), turn
        assert not decider.allows("slack", "home", "GET", b"/a")
        assert not decider.allows("slack", "work", "POST", b"/a")
        assert not decider.allows("slack", "work", "GET", b"/b")
        assert not decider.allows("github", "work", "GET", b"/a")
    for number in range(1000):
        assert decider.allows("slack", "work", "GET", b"/a%d" % number)
    assert len(decider._verdicts) <= 256
