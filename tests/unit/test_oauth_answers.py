"""What answers of token endpoints mean: grants with their times, and which refusal is which."""

import json
import math
import traceback
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.depth import examples
from support.vaults import service

from proxy.catalog.grants import Dialect, Failure, OAuth
from proxy.catalog.model import Param, Service
from proxy.connectors.oauth.answers import (
    ApplicationFault,
    Grant,
    GrantDead,
    OutcomeUnknown,
    ProviderBusy,
    TokenFault,
    read_answer,
    wait_of,
)
from proxy.connectors.oauth.bodies import MAX_BODY, UnreadableError, read_document
from proxy.secret import Secret

NOW = 1_800_000_000.0
JSON, FORM = "application/json; charset=utf-8", "application/x-www-form-urlencoded"
YEAR = 365 * 86400.0


def acme(*, failure: Failure | None = None, params: tuple[Param, ...] = (), **oauth: Any) -> Service:
    table = OAuth("acme", "https://acme.example/authorize", "https://acme.example/token", **oauth)
    return replace(service("acme", params=params), oauth=table, failure=failure or Failure())


def read(body: object, known: Service | None = None, *, status: int = 200, kind: str = JSON, **more) -> Grant:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(known or acme(), status, kind, raw, sent_at=NOW, **more)


def fault(body: object, known: Service | None = None, **more) -> TokenFault:
    with pytest.raises(TokenFault) as caught:
        read(body, known, **more)
    return caught.value


# --- grants -------------------------------------------------------------------------------------------


def test_a_whole_answer():
    """Tokens, absolute times counted from before the request, and the scopes that were granted (R105, R107, R125)."""
    grant = read(
        {
            "access_token": "a",
            "refresh_token": "r",
            "token_type": "BEARER",
            "expires_in": 3600,
            "refresh_expires_in": 86400,
            "scope": "read write",
            "unknown": [1, {"x": None}],
        }
    )
    assert (grant.tokens.access_token, grant.tokens.refresh_token) == (Secret("a"), Secret("r"))
    assert (grant.tokens.issued_at, grant.tokens.expires_at) == (NOW, NOW + 3600)
    assert grant.tokens.refresh_expires_at == NOW + 86400
    assert grant.scopes == ("read", "write")
    assert (grant.account, grant.account_id, grant.config, grant.metadata) == (None, None, {}, {})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("3600", 3600), ("3600.5", 3600.5), (3599.9, 3599.9), (1, 1), (2, 2), (" 60 ", 60),
        (0, None), (-1, None), ("-1", None), (None, None), ("", None), ("soon", None), ("1e9", None), ("0x10", None),
        (True, None), (False, None), ([], None), ({}, None), ("٣", None),
        (NOW + 60, 60), (str(int(NOW) + 60), 60), ((NOW + 60) * 1000, 60),
        (NOW - 60, math.inf), (10**12 - 1, math.inf), (10**19, math.inf), (25 * YEAR, math.inf), (15 * YEAR, 15 * YEAR),
    ],
)  # fmt: skip
def test_lifetimes_in_every_shape(told, expected):
    """A lifetime is taken where one is told, else the file's; what is longer than tokens live is for ever (R105)."""
    assert read({"access_token": "a", "expires_in": told}).tokens.expires_at == (
        None if expected is None or expected == math.inf else NOW + expected
    )
    known = acme(access_lifetime_s=100)
    assert read({"access_token": "a", "expires_in": told}, known).tokens.expires_at == (
        NOW + 100 if expected is None else None if expected == math.inf else NOW + expected
    )


@pytest.mark.parametrize(
    "text", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"1" + b"0" * 400]
)
def test_numbers_that_are_none(text):
    """NaN, infinities and digits without end tell nothing, and harm nothing (R105)."""
    grant = read(b'{"access_token":"a","expires_in":' + text + b"}", acme(access_lifetime_s=7))
    assert grant.tokens.expires_at == NOW + 7


def test_an_untold_expiry_may_mean_for_ever():
    """Where the file says so, a token without expires_in does not end (GitHub, Slack; R181)."""
    known = acme(access_lifetime_s=28800, untold_expiry="never")
    assert read({"access_token": "a"}, known).tokens.expires_at is None
    assert read({"access_token": "a", "expires_in": 5}, known).tokens.expires_at == NOW + 5


def test_the_end_of_the_refresh_token():
    """As told, else by the file where a refresh token came; without one nothing is said about the stored one."""
    known = acme(refresh_lifetime_s=50, answer={"refresh_expires_in": "refresh_token_expires_in"})
    pair = {"access_token": "a", "refresh_token": "r"}
    assert read(pair, known).tokens.refresh_expires_at == NOW + 50
    assert read(pair | {"refresh_token_expires_in": 9}, known).tokens.refresh_expires_at == NOW + 9
    assert read({"access_token": "a"}, known).tokens.refresh_expires_at is None
    assert (
        read({"access_token": "a", "refresh_token_expires_in": 9}, known).tokens.refresh_expires_at == NOW + 9
    )
    assert read(pair | {"refresh_expires_in": 10**11}).tokens.refresh_expires_at is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("a b", ("a", "b")), ("a,b", ("a", "b")), ("a, b  c", ("a", "b", "c")), (["a", "b"], ("a", "b")), ("", ()), ([], ()),
        ("b a b", ("b", "a")), (None, None), (5, None), (["a", 5], None), ({"a": 1}, None), ("https://x.example/.default", ("https://x.example/.default",)),
    ],
)  # fmt: skip
def test_scopes_in_every_shape(told, expected):
    """A string with any separator or a list; not told is not the same as none (R107)."""
    assert read({"access_token": "a", "scope": told}).scopes == expected


@pytest.mark.parametrize("kind", ["bearer", "Bearer", "bEaReR", "bot", "user", "", 5, None, ["x"]])
def test_token_types_of_any_case(kind):
    """How the type is spelt does not matter; the file says how the token is sent (R105)."""
    assert read({"access_token": "a", "token_type": kind}).tokens.access_token == Secret("a")


@pytest.mark.parametrize("kind", ["mac", "DPoP", "PoP", "N_A"])
def test_tokens_that_a_header_cannot_use(kind):
    """A token bound to a key we do not have is the operator's to mend, not a dead grant."""
    assert isinstance(fault({"access_token": "a", "token_type": kind}), ApplicationFault)


def test_own_paths():
    """Tokens and names under dotted paths, in answers to a refresh elsewhere (Slack's user tokens)."""
    known = acme(
        answer={
            "access_token": "authed_user.access_token",
            "refresh_token": "authed_user.refresh_token",
            "account_id": "authed_user.id",
            "account_name": "team.name",
        },
        refresh_answer={"access_token": "access_token", "refresh_token": "refresh_token"},
    )
    connected = {
        "ok": True,
        "access_token": "bot",
        "refresh_token": "bot-r",
        "authed_user": {"id": "U1", "access_token": "user", "refresh_token": "user-r"},
        "team": {"name": "Acme"},
    }
    grant = read(connected, known)
    assert (grant.tokens.access_token.reveal(), grant.account_id, grant.account) == ("user", "U1", "Acme")
    renewed = read({"ok": True, "access_token": "u2", "refresh_token": "r2"}, known, refreshed=True)
    assert (renewed.tokens.access_token, renewed.tokens.refresh_token) == (Secret("u2"), Secret("r2"))
    assert isinstance(
        fault({"ok": True, "access_token": "bot", "authed_user": {"id": "U1"}}, known), OutcomeUnknown
    )
    assert fault(connected | {"authed_user": "x"}, known)


@pytest.mark.parametrize(("told", "expected"), [("x" * 300, "x" * 200), (5, "5"), (" a ", "a"), (True, None), ("", None), ("a\nb", None), ([], None), ("\ud800", None)])  # fmt: skip
def test_names_of_accounts(told, expected):
    """Text or a number, printable and of a length that fits a page; anything else is no name."""
    known = acme(answer={"account_name": "name"})
    assert read({"access_token": "a", "name": told}, known).account == expected


HOST = Param("host", r"[a-z]+\.acme\.example", lower=True, required=True, source="token:api.host")
TEAM = Param("team", "[0-9]+", informational=True, source="token:team")
FLAG = Param("flag", "[a-zA-Z]+", source="token:flag")
CITY = Param("city", "[a-z]+")


def test_values_of_the_connection():
    """Values that the answer tells go where their file says, in their form; others are named and left (R76)."""
    known = acme(params=(HOST, TEAM, CITY))
    told = {"access_token": "a", "api": {"host": "EU.acme.example"}, "team": 7, "city": "x"}
    grant = read(told, known)
    assert (grant.config, grant.metadata, grant.unfit) == ({"host": "eu.acme.example"}, {"team": "7"}, ())
    for bad in (
        "evil.example",
        "https://eu.acme.example",
        "eu.acme.example\n",
        ["eu.acme.example"],
        {"x": 1},
        True,
    ):
        grant = read(told | {"api": {"host": bad}}, known)
        assert (grant.config, grant.unfit) == ({}, ("host",))
        assert grant.tokens.access_token == Secret("a")
    assert read({"access_token": "a", "flag": True}, acme(params=(FLAG,))).unfit == ("flag",)
    for nothing in (None, ""):
        assert read(told | {"api": {"host": nothing}}, known).unfit == ()


def test_forms_are_read_as_well():
    """A form, said to be one or plain text that looks like one, gives the same grant (R105; GitHub)."""
    body = b"access_token=a%2Bb&expires_in=60&scope=repo%2Cgist&token_type=bearer&refresh_token="
    for kind in (FORM, "Application/X-WWW-Form-Urlencoded; charset=utf-8", "text/plain", ""):
        grant = read(body, kind=kind)
        assert (grant.tokens.access_token, grant.tokens.expires_at) == (Secret("a+b"), NOW + 60)
        assert grant.scopes == ("repo", "gist")
        assert grant.tokens.refresh_token is None


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "text/html",
        "application/octet-stream",
        "application/json;charset=iso-8859-1",
        "nonsense",
    ],
)
def test_json_is_known_by_its_looks(kind):
    """JSON is read whatever the Content-Type says it is; its charset is UTF-8 whatever is claimed."""
    assert read('{"access_token":"a","scope":"ä"}'.encode(), kind=kind).tokens.access_token == Secret("a")
    assert read(b'\xef\xbb\xbf{"access_token":"a"}', kind=kind).tokens.access_token == Secret("a")


def test_a_member_that_stands_twice():
    """The same thing twice is one; two different ones can be read either way, so neither is believed."""
    assert read(b'{"access_token":"a","access_token":"a"}').tokens.access_token == Secret("a")
    assert isinstance(fault(b'{"access_token":"a","access_token":"b"}'), OutcomeUnknown)
    assert isinstance(fault(b'{"access_token":"a","refresh_token":"r","refresh_token":"s"}'), OutcomeUnknown)
    assert isinstance(fault(b"access_token=a&access_token=b", kind=FORM), OutcomeUnknown)
    assert read(b'{"access_token":"a","x":1,"x":2,"expires_in":1,"expires_in":2}').tokens.expires_at is None


# --- answers that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"", b" \r\n", b"null", b"[]", b'["access_token"]', b'"a"', b"5", b"{", b'{"access_token":"a"', b"<html></html>",
        b"\xff\xfe{\x00}\x00", b'{"access_token":"\xff"}', b"{}", b'{"expires_in":3600}', b"[" * 100_000,
        b'{"a":' * 90_000 + b"1" + b"}" * 90_000, b'{"access_token":"a"}' + b" " * MAX_BODY,
        b'{"access_token":"a"} x', b"{'access_token':'a'}",
    ],
)  # fmt: skip
def test_what_cannot_be_read(body):
    """Empty, cut, HTML, too deep, too large, not UTF-8, without a token: the outcome is unknown, nobody is dead."""
    assert isinstance(fault(body), OutcomeUnknown)


@pytest.mark.parametrize(
    "token", [None, "", 5, True, [], ["a"], {"value": "a"}, "a b", "a\n", "\ud800", "ä", "a" * 70_000]
)
def test_access_tokens_that_are_none(token):
    """A missing, wrong-typed or unusable access_token is no grant (R105)."""
    assert isinstance(fault({"access_token": token}), OutcomeUnknown)


@pytest.mark.parametrize("token", [5, True, [], {"a": 1}, "a\nb", "\ud800", "ä", "r" * 70_000])
def test_refresh_tokens_that_are_none(token):
    """A refresh token that cannot be one is not stored, and not taken for its absence either."""
    assert isinstance(fault({"access_token": "a", "refresh_token": token}), OutcomeUnknown)


@pytest.mark.parametrize("token", [None, ""])
def test_absent_refresh_tokens(token):
    """None and the empty string say that there is none: the stored one stays (R114)."""
    assert read({"access_token": "a", "refresh_token": token}).tokens.refresh_token is None


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_grant", GrantDead), (401, "invalid_grant", GrantDead), (200, "invalid_grant", GrantDead),
        (400, "invalid_client", ApplicationFault), (401, "invalid_client", ApplicationFault), (200, "invalid_client", ApplicationFault),
        (400, "unauthorized_client", ApplicationFault), (400, "unsupported_grant_type", ApplicationFault),
        (400, "invalid_request", ApplicationFault), (400, "invalid_scope", ApplicationFault),
        (400, "server_error", ProviderBusy), (400, "temporarily_unavailable", ProviderBusy), (400, "slow_down", ProviderBusy),
        (400, "something_new", ProviderBusy), (200, "something_new", ProviderBusy), (403, "access_denied", ProviderBusy),
        (429, "invalid_grant", ProviderBusy), (500, "invalid_grant", ProviderBusy), (503, "invalid_client", ProviderBusy),
        (408, "x", ProviderBusy), (425, "x", ProviderBusy), (404, "x", ProviderBusy), (418, "x", ProviderBusy),
        (501, "x", OutcomeUnknown), (502, "invalid_grant", OutcomeUnknown), (504, "x", OutcomeUnknown), (599, "x", OutcomeUnknown),
        (301, "x", ProviderBusy), (302, "x", ProviderBusy), (307, "x", ProviderBusy), (308, "x", ProviderBusy), (303, "x", OutcomeUnknown),
    ],
)  # fmt: skip
def test_refusals(status, code, kind):
    """Only what the standard calls final is final, at statuses that mean the request (R120, R121)."""
    found = fault({"error": code, "error_description": "gone"}, status=status)
    assert (type(found), found.code) == (kind, code)
    assert str(found) == f"Acme answered {status} and said {code} at its token endpoint"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    "body", [b"", b"<html>Oops</html>", b"{", b"[]", b'{"error":null}', b'{"error":{"code":5}}']
)
def test_refusals_without_a_code(status, body):
    """A whole refusal that says nothing usable was not carried out and kills nothing (R120)."""
    found = fault(body, status=status)
    assert (type(found), found.code) == (ProviderBusy, None)


DIALECTS = Failure(
    dead=(
        Dialect(200, "error", ("bad_refresh_token",), "token"),
        Dialect(400, "status", ("BAD_REFRESH_TOKEN",), "token"),
        Dialect(404, on="token"),
        Dialect(401),
    ),
    never=(
        Dialect(200, "error", ("bad_client_secret", "bad_refresh_token_of_app"), "token"),
        Dialect(403, "errors[].code", ("BANNED",), "token"),
    ),
)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (200, {"error": "bad_refresh_token"}, GrantDead, "bad_refresh_token"),
        (200, {"ok": False, "error": "bad_refresh_token"}, GrantDead, "bad_refresh_token"),
        (400, {"status": "BAD_REFRESH_TOKEN", "message": "x"}, GrantDead, "BAD_REFRESH_TOKEN"),
        (404, b"", GrantDead, None),
        (401, {"error": "x"}, ProviderBusy, "x"),
        (400, {"error": "bad_refresh_token"}, ProviderBusy, "bad_refresh_token"),
        (200, {"ok": False, "error": "bad_client_secret"}, ApplicationFault, "bad_client_secret"),
        (403, {"errors": [{"code": "x"}, {"code": "BANNED"}]}, ApplicationFault, "BANNED"),
        (200, {"ok": False, "error": "ratelimited"}, ProviderBusy, "ratelimited"),
        (200, {"ok": False}, ProviderBusy, None),
        (200, {"ok": False, "access_token": "a"}, ProviderBusy, None),
        (200, {"error": "odd", "access_token": "a"}, ProviderBusy, "odd"),
    ],
)  # fmt: skip
def test_the_services_own_words(status, body, kind, code):
    """Entries for the token endpoint decide first, never before dead; those of API calls do not count here (R120)."""
    found = fault(body, acme(failure=DIALECTS), status=status)
    assert (type(found), found.code) == (kind, code)


def test_an_error_that_is_none():
    """An empty or null error member, or one that says ok, beside a token is no refusal (TikTok)."""
    for error in (None, "", {"code": "ok", "message": ""}):
        assert read({"access_token": "a", "error": error}).tokens.access_token == Secret("a")


@pytest.mark.parametrize(
    "code",
    ["sk-live-4f9a8b7c6d5e4f3a2b1c", "the token abc123 is expired", "a" * 60, "x\ny", "<b>", "eyJhbGciOi.eyJz.c2ln9", "4/0AX4XfWh", "", " ", "ä"],
)  # fmt: skip
def test_only_words_are_shown(code):
    """Text of a provider that might hold a secret is not repeated, be it in the place of a code (R143)."""
    found = fault({"error": code, "error_description": code, "message": code}, status=400)
    assert found.code is None
    assert str(found) == "Acme answered 400 at its token endpoint"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7.0), ("0", 0.0), (" 30 ", 30.0), ("1.5", 1.5), ("99999999", 86400.0), ("-1", None), ("", None), ("soon", None),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0), ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0), ("Fri, 99 Jan 2027 08:00:30 GMT", None),
        ("Wed, 01 Jan 9999 00:00:00 GMT", 86400.0), ("1" * 400, None),
    ],
)  # fmt: skip
def test_waits(text, expected):
    """Retry-After in seconds or as a date, at most a day; nonsense is no wait (RFC 9110 §10.2.3)."""
    assert wait_of(text, NOW) == expected
    found = fault({"error": "slow_down"}, status=429, retry_after=text)
    assert found.retry_after == expected


# --- nothing else, ever -------------------------------------------------------------------------------

CANARY = "kanarien4711vogel"
_leaf = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["a", "3600", "bearer", "invalid_grant", CANARY, f"{CANARY} {CANARY}", "\ud800"])
)  # fmt: skip
_names = st.sampled_from(
    ["access_token", "refresh_token", "expires_in", "refresh_expires_in", "scope", "token_type", "error", "ok", "status", "code", "api", "host", "name", "authed_user"]
)  # fmt: skip
_tree = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4)
)
_document = st.dictionaries(_names, _tree, max_size=8).map(lambda tree: json.dumps(tree).encode())
_cut = st.tuples(_document, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
_body = (
    st.binary(max_size=60)
    | _document
    | _cut
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
_kind = st.sampled_from([JSON, FORM, "text/plain", "text/html", ""]) | st.text(max_size=12)
KNOWN = acme(
    failure=DIALECTS,
    params=(HOST, TEAM),
    answer={"account_name": "name"},
    refresh_answer={"access_token": "authed_user.access_token"},
)


@settings(max_examples=examples(100), deadline=None)
@given(
    status=st.sampled_from([200, 201, 204, 302, 303, 400, 401, 403, 404, 429, 500, 502, 503, 504])
    | st.integers(100, 599),
    kind=_kind,
    body=_body,
    refreshed=st.booleans(),
    retry=st.text(max_size=8),
    coding=st.sampled_from(["", "identity", "gzip", "deflate", "br"]),
)
@example(status=200, kind="", body=b"\x00", refreshed=False, retry="", coding="gzip")
def test_an_answer_is_a_grant_or_a_fault(*, status, kind, body, refreshed, retry, coding):
    """No bytes, status or header make anything else of an answer; a 4xx or 5xx never gives a grant (R105)."""
    try:
        grant = read_answer(
            KNOWN, status, kind, body, sent_at=NOW, refreshed=refreshed, retry_after=retry, coding=coding
        )
    except (GrantDead, ApplicationFault, ProviderBusy, OutcomeUnknown) as found:
        if found.retry_after is None or 0 <= found.retry_after <= 86400:
            return
        raise
    assert 200 <= status < 300
    tokens = grant.tokens
    assert tokens.access_token.reveal().isascii()
    assert tokens.access_token.reveal().isprintable()
    for end in (tokens.expires_at, tokens.refresh_expires_at):
        assert end is None or NOW < end <= NOW + 20 * YEAR
    json.dumps([grant.scopes, dict(grant.config), dict(grant.metadata), grant.account]).encode()


@settings(max_examples=examples(100), deadline=None)
@given(status=st.integers(200, 599), kind=_kind, body=_body)
@example(status=400, kind=JSON, body=json.dumps({"error": CANARY, "error_description": CANARY}).encode())
@example(status=200, kind=JSON, body=json.dumps({"access_token": f"{CANARY} {CANARY}"}).encode())
def test_faults_hold_nothing_of_the_body(status, kind, body):
    """What a provider wrote stands in no message, repr or traceback of a fault, nor a token in those of a grant (R143)."""
    try:
        shown = repr(read_answer(KNOWN, status, kind, body, sent_at=NOW).tokens)
    except TokenFault as found:
        shown = "".join(traceback.format_exception(found)) + repr(found)
    assert CANARY not in shown


@pytest.mark.parametrize("kind", [JSON, FORM, "text/plain"])
def test_documents_hold_what_was_sent(kind):
    """A document is an object, or there is none; the error says what is wrong and nothing of the content."""
    with pytest.raises(UnreadableError) as caught:
        read_document(kind, CANARY.encode())
    assert CANARY not in str(caught.value)
