"""GraphQL requests of read-only keys: what is certain to read only, and everything that is not."""

import json

import pytest

from proxy.forwarding.permits.graphql import (
    MOST_BYTES,
    MOST_DOCUMENTS,
    is_json,
    why_not_body,
    why_not_query,
)
from proxy.forwarding.permits.selections import MOST_DEPTH, MOST_TOKENS

NONE: frozenset[str] = frozenset()


def body(document: object, **more: object) -> bytes:
    return json.dumps({"query": document, **more}).encode()


@pytest.mark.parametrize(
    "given",
    [
        body("{ viewer { login } }"),
        body(
            "query Q($n: Int = 1) { a(first: $n) { ...F } } fragment F on A { mutation subscription }",
            variables={"n": 1},
        ),
        body("query A { a } query B { b }", operationName="B"),
        body("\ufeff{ a } # mutation { b }"),
        body('{ a(text: "mutation { b }") }', operationName=None, extensions={}),
        body("{ mutation: a @include(if: true) { ... on B { c } } }"),
        b'{"query": "qu\\u0065ry { \\u0061 }"}',
        b'[{"query": "{a}"}, {"query": "{b}", "variables": {"a": {"query": 1}}}]',
        body("{ a\r\n b }"),
        body("query IntrospectionQuery { __schema { queryType { name } mutationType { name } } }"),
    ],
)
def test_queries_pass(given):
    """Queries pass: named, several, with fragments, variables, aliases, comments, a byte order mark, escapes of JSON."""
    assert why_not_body(given, NONE) == ""


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (body("mutation { a }"), "mutation"),
        (body("subscription { a }"), "subscription"),
        (body("query Q { a } mutation M { b }", operationName="Q"), "mutation"),
        (body("query Q { a } mutation M { b }", operationName="M"), "mutation"),
        (b'{"query": "mut\\u0061tion { a }"}', "mutation"),
        (body("\ufeff#{\nmutation{a}"), "mutation"),
        (body("fragment F on A { b }"), "no operation"),
        (body("type A { b: C }"), "something else"),
        (body("{ a } extend type A { b: C }"), "something else"),
        (body("{ a # \r { x } } mutation { b }\n#\r}"), "control"),
        (body("{ a \u2028 }"), "control"),
        (body("{ a \u0000 }"), "control"),
        (b'{"query": "{ a(b: \\"\\ud800\\") }"}', "control"),
        (body('{ a(b: """c""") }'), "block strings"),
        (body("{ a "), "parse"),
        (body(""), "parse"),
        (body("{" + "a " * MOST_TOKENS + "}"), "tokens"),
        (body("{a" * (MOST_DEPTH + 1) + "}" * (MOST_DEPTH + 1)), "deep"),
        (body("{a" * 900 + "}" * 900), "parse"),
        (body("{ a }" + " " * MOST_BYTES), "bytes"),
        (b'{"query": "{a}", "query": "mutation { b }"}', "twice"),
        (b'{"query": "{a}", "variables": {"x": 1, "x": 2}}', "twice"),
        (
            body("{ a }", extensions={"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}),
            "kept at the service",
        ),
        (b'{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}', "kept at the service"),
        (body("{ a }", id="mutation-1"), "kept at the service"),
        (body("{ a }", documentId="x"), "kept at the service"),
        (body("{ a }", Query="mutation { b }"), "kept at the service"),
        (body(None), "missing"),
        (b"{}", "missing"),
        (body(["{ a }"]), "missing"),
        (body("{ a }", operationName=1), "missing"),
        (b"[]", "batch"),
        (json.dumps([{"query": "{a}"}] * (MOST_DOCUMENTS + 1)).encode(), "batch"),
        (b'[{"query": "{a}"}, {"query": "mutation{b}"}]', "mutation"),
        (b'[[{"query": "{a}"}]]', "object"),
        (b'"{ a }"', "object"),
        (b"query={a}", "not JSON"),
        (b"", "not JSON"),
        (b'\xef\xbb\xbf{"query": "{a}"}', "not JSON"),
        (b'{"query": "{a}"}{"query": "mutation{b}"}', "not JSON"),
        (b'{"query": "{a \xff}"}', "not JSON"),
        ('{"query": "{a}"}'.encode("utf-16"), "not JSON"),
        (b'{"query": "{a}", "variables": NaN}', "NaN"),
        (b"[" * 40_000, "not JSON"),
    ],
)
def test_everything_else_does_not(given, reason):
    """Mutations in every dress, what two readers take differently, and what is too large to judge are refused, with the reason."""
    assert reason in why_not_body(given, NONE)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("{ repository { tempCloneToken } }", True),
        ("{ a { x: tempCloneToken } }", True),
        ("{ ...F } fragment F on R { ... on S { tempCloneToken } }", True),
        ("{ a } fragment Unused on R { tempCloneToken }", True),
        ("{ tempCloneToken: a(tempCloneToken: 1) }", False),
    ],
)
def test_fields_that_answer_with_credentials(document, named):
    """Such a field is found wherever it is selected, whatever its alias; the same word as alias or argument is none."""
    assert ("tempCloneToken" in why_not_body(body(document), frozenset({"tempCloneToken"}))) is named


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (b"query=%7Ba%7D", ""),
        (b"query={a+b}&operationName=&variables=%7B%7D", ""),
        (b"query={a}&extensions=%7B%7D", ""),
        (b"query=mutation{a}", "mutation"),
        (b"query=mut%61tion{a}", "mutation"),
        (b"query={a}&query=mutation{b}", "twice"),
        (b"query={a}&qu%65ry=mutation{b}", "twice"),
        (b"query={a};query=mutation{b}", "two readings"),
        (b"query={a}&extensions=%7B%22persistedQuery%22:1%7D", "kept at the service"),
        (b"id=1", "kept at the service"),
        (b"query=%ff", "UTF-8"),
        (b"", "kept at the service"),
        (None, "query="),
        (b"query=" + b"a" * MOST_BYTES, "query="),
    ],
)  # fmt: skip
def test_documents_in_a_query_string(query, reason):
    """A GET's document is judged likewise, once, decoded as the service will."""
    found = why_not_query(query, NONE)
    assert bool(found) is bool(reason)
    assert reason in found


@pytest.mark.parametrize(
    ("content_type", "coding", "good"),
    [
        (b"application/json", b"", True),
        (b"Application/JSON; charset=UTF-8", b"identity", True),
        (b"application/json; charset=utf-16", b"", False),
        (b"application/json; charset=utf-8; x=1", b"", False),
        (b"application/json", b"gzip", False),
        (b"application/x-www-form-urlencoded", b"", False),
        (b"application/graphql", b"", False),
        (b"multipart/form-data; boundary=a", b"", False),
        (b"", b"", False),
    ],
)
def test_what_is_json(content_type, coding, good):
    """Only JSON in UTF-8, uncompressed, is judged: everything else is read differently by somebody."""
    assert is_json(content_type, coding) is good
