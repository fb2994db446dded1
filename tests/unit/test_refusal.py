"""Which answers say that the token was refused: by status, and by codes in bodies that come in any pieces."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import steps

from proxy.catalog.grants import Dialect, Failure, Verify
from proxy.catalog.loader import load_catalog
from proxy.forwarding.refusal import MOST_BYTES, Rule, is_readable, judge, rules_of

CATALOG = load_catalog()
AUTH = "AUTHENTICATION_ERROR"


def rules(type_id: str) -> dict[int, Rule]:
    return dict(rules_of(CATALOG.services[type_id]))


def verdict(type_id: str, status: int, document: Any) -> bool:
    """The verdict on a whole answer: a document, or the very bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    rule = rules(type_id).get(status)
    if rule is None:
        return False
    if not rule.literals:
        return rule.otherwise
    found = judge(rule, body, b"", complete=True)
    assert found is not None
    return found


def graphql(code: str = "", kind: str = "") -> dict[str, Any]:
    return {"errors": [{"message": "no", "extensions": {"type": kind, "code": code}}], "data": None}


SHAPES = [
    ("slack", 200, {"ok": False, "error": "token_expired"}, True),
    ("slackbot", 200, {"ok": False, "error": "token_expired", "warning": "x"}, True),
    ("slack", 200, {"ok": False, "error": "token_revoked"}, True),
    ("slack", 200, {"ok": False, "error": "missing_scope", "needed": "chat:write"}, False),
    ("slack", 200, {"ok": False, "error": "channel_not_found"}, False),
    ("slack", 200, {"ok": True, "error": "token_expired"}, False),
    ("slack", 200, {"ok": True, "messages": [{"text": "token_expired"}]}, False),
    ("slack", 200, {"ok": False, "detail": {"error": "token_expired"}}, False),
    ("slack", 200, b'{"ok":false,"error":"\\u0074oken_expired"}', True),
    ("slack", 200, b'{"ok":false,"error":"token_expired"', False),
    ("slack", 200, b'["token_expired"]', False),
    ("slack", 200, b"[" * MOST_BYTES, False),
    ("slack", 200, b'{"error":"token_expired","x":' + b"[" * 3000, False),
    ("slack", 200, b'{"error":"token_expired","x":"\xff"}', False),
    ("slack", 200, b"", False),
    ("slack", 401, b"", True),
    ("linear", 200, graphql(AUTH, "authentication error"), True),
    ("linear", 400, graphql(AUTH, "authentication error"), True),
    ("linear", 400, graphql(AUTH, "forbidden"), False),
    ("linear", 200, graphql("RATELIMITED", "ratelimited"), False),
    ("linear", 200, {"data": {"issues": []}}, False),
    ("linear", 401, {}, True),
    ("salesforce", 400, {"exceptionCode": "InvalidSessionId", "exceptionMessage": "no"}, True),
    ("salesforce", 400, {"exceptionCode": "InvalidJob"}, False),
    ("salesforce", 401, [{"errorCode": "INVALID_SESSION_ID"}], True),
    ("salesforce", 403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED"}], False),
    ("typeform", 403, {"code": "AUTHENTICATION_FAILED"}, True),
    ("typeform", 403, {"code": "FORBIDDEN"}, False),
    ("typeform", 403, {"code": "ANOTHER"}, False),
    ("clickup", 401, {"ECODE": "OAUTH_023"}, False),
    ("clickup", 401, {"ECODE": "OAUTH_025"}, True),
    ("dropbox", 401, {"error": {".tag": "missing_scope"}}, False),
    ("dropbox", 401, {"error": {".tag": "expired_access_token"}}, True),
    ("dropbox", 401, b"not JSON", True),
    ("tiktok", 401, {"error": {"code": "scope_not_authorized"}}, False),
    ("tiktok", 401, {"error": {"code": "access_token_invalid"}}, True),
    ("linkedin", 401, {"serviceErrorCode": 65601}, True),
    ("github", 401, {}, True),
    ("github", 403, {"message": "Bad credentials"}, False),
    ("github", 404, {}, False),
    ("github", 200, {"error": "bad_refresh_token"}, False),
]


@pytest.mark.parametrize(("type_id", "status", "document", "refused"), SHAPES)
def test_what_the_services_say(type_id: str, status: int, document: Any, refused: bool) -> None:  # noqa: FBT001  # a column
    """Each service's own words for "refresh" are understood, and a missing scope never is one (R63, R127)."""
    assert verdict(type_id, status, document) is refused


def test_most_answers_are_never_looked_at() -> None:
    """Bodies of good answers matter at Slack and Linear only; elsewhere a 401 is the only sign, or an error status."""
    looked_at = {
        (type_id, status)
        for type_id, service in CATALOG.services.items()
        for status, rule in rules_of(service).items()
        if rule.literals
    }
    assert {pair for pair in looked_at if pair[1] < 300} == {
        ("slack", 200),
        ("slackbot", 200),
        ("linear", 200),
    }
    assert {pair for pair in looked_at if pair[1] >= 300} == {
        ("linear", 400),
        ("salesforce", 400),
        ("typeform", 403),
        ("clickup", 401),
        ("dropbox", 401),
        ("tiktok", 401),
    }
    assert all(rules_of(service)[401].otherwise for service in CATALOG.services.values())


def test_entries_by_status_alone() -> None:
    """An entry without a code speaks for every answer of its status: never wins, then dead or expired."""
    made = steps.service(
        "svc",
        steps.host("api", "svc.test"),
        failure=Failure(
            expired=(Dialect(419), Dialect(403), Dialect(200, "error", ("old",), on="token")),
            dead=(Dialect(410),),
            never=(Dialect(403), Dialect(419, "error", ("scope",))),
        ),
    )
    found = rules_of(made)
    assert set(found) == {401, 410, 419}
    assert found[410] == Rule(otherwise=True)
    assert judge(found[419], b'{"error":"scope"}', b"", complete=True) is False
    assert judge(found[419], b'{"error":"other"}', b"", complete=True) is True


@pytest.mark.parametrize(
    ("content_type", "coding", "length", "readable"),
    [
        (b"application/json", b"", None, True),
        (b"Application/JSON; charset=utf-8", b"gzip", MOST_BYTES, True),
        (b"application/problem+json", b"identity", 0, True),
        (b"application/json", b"Deflate", 1, True),
        (b"application/json", b"", MOST_BYTES + 1, False),
        (b"application/json", b"br", 10, False),
        (b"application/json", b"gzip, gzip", 10, False),
        (b"application/x-ndjson", b"", None, False),
        (b"application/jsonl", b"", None, False),
        (b"text/event-stream", b"", None, False),
        (b"text/html", b"", 10, False),
        (b"", b"", 10, False),
    ],
)
def test_what_can_be_read(content_type: bytes, coding: bytes, length: int | None, readable: bool) -> None:  # noqa: FBT001  # a column
    """Only short JSON in a coding that can be undone is looked at: no streams, no pages, no files."""
    assert is_readable(content_type, coding, length) is readable


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


CODINGS = {b"": bytes, b"gzip": gzip.compress, b"deflate": zlib.compress, b"DEFLATE ": raw_deflate}
EXPIRED = b'{"ok":false,"error":"token_expired"}'


@pytest.mark.parametrize("coding", CODINGS)
def test_coded_bodies(coding: bytes) -> None:
    """Gzip and deflate (with and without zlib's frame) are undone; cut, doubled or swollen ones are left alone."""
    rule = rules("slack")[200]
    coded = CODINGS[coding](EXPIRED)
    assert judge(rule, coded, coding, complete=True) is True
    if not coding:
        return
    bomb = CODINGS[coding](EXPIRED[:-1] + b" " * 1_000_000 + b"}")
    assert len(bomb) < MOST_BYTES
    for bad in (coded[:-3], coded + coded, coded[5:], b"", b"\x78", bomb):
        assert judge(rule, bad, coding, complete=True) is False


words = st.sampled_from(["token_expired", "missing_scope", "invalid_auth", "fine", 'é\\"', AUTH, "forbidden"])
documents = st.recursive(
    st.one_of(words, st.booleans(), st.none(), st.integers(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["ok", "error", "errors", "extensions", "code", "type"]), inner, max_size=4
        ),
    ),
    max_leaves=12,
)
bodies = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()),
    documents.map(lambda document: json.dumps(document, indent=1, ensure_ascii=False).encode()),
    st.binary(max_size=80),
    st.integers(MOST_BYTES - 60, MOST_BYTES + 60).map(lambda n: EXPIRED[:-1] + b" " * (n - 36) + b"}"),
)


def slow_verdict(rule: Rule, body: bytes) -> bool:
    """The rule spelt out: parse everything, look everywhere."""
    try:
        document = json.loads(body.decode())
    except ValueError:
        return rule.otherwise
    if len(body) > MOST_BYTES or (rule.fine is not None and rule.fine.match(body)):
        return rule.otherwise

    def codes(entries: tuple[Dialect, ...]) -> bool:
        for entry in entries:
            found = [document]
            for step in entry.path.replace("[]", ".[]").split("."):
                if step == "[]":
                    found = [item for one in found if isinstance(one, list) for item in one]
                elif step:
                    found = [one[step] for one in found if isinstance(one, dict) and step in one]
            if any(isinstance(value, str) and value in entry.codes for value in found):
                return True
        return False

    return not codes(rule.never) and codes(rule.refusing)


@given(
    body=bodies,
    cuts=st.lists(st.integers(0, MOST_BYTES), max_size=6),
    service=st.sampled_from(["slack", "linear"]),
    coding=st.sampled_from([b"", b"", b"gzip", b"deflate"]),
)
def test_any_pieces_give_the_same_verdict(body: bytes, cuts: list[int], service: str, coding: bytes) -> None:
    """However a body is cut into pieces, what is decided early is what the whole body says, as the slow rule says it."""
    rule = rules(service)[200]
    coded = CODINGS[coding](body)
    whole = judge(rule, coded, coding, complete=True)
    if len(coded) <= MOST_BYTES and (not coding or len(body) < MOST_BYTES):
        assert whole is slow_verdict(rule, body)
    for cut in sorted({0, *(min(cut, len(coded)) for cut in cuts)}):
        assert judge(rule, coded[:cut], coding, complete=False) in {None, whole}


@given(st.dictionaries(st.text(max_size=5), documents, max_size=3))
def test_success_is_passed_on_at_once(rest: dict[str, Any]) -> None:
    """A body that begins with the service's word for success is not held back, whatever follows."""
    body = json.dumps({"ok": True, **{f"x{key}": value for key, value in rest.items()}}).encode()
    rule = rules("slack")[200]
    assert judge(rule, body[:12], b"", complete=False) is False
    assert judge(rule, body[:5], b"", complete=False) is None


def test_a_word_for_success_needs_a_plain_key() -> None:
    """A nested or indexed ``ok_path`` gives no such word: then bodies are read whole."""
    failure = Failure(expired=(Dialect(200, "error", ("old",)),))
    for path in ("a.b", "a[0]", ""):
        made = steps.service(
            "svc", steps.host("api", "svc.test"), failure=failure, verify=Verify("GET", "/me", ok_path=path)
        )
        assert rules_of(made)[200].fine is None
