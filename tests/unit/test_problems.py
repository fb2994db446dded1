"""One table from errors to answers: complete, without unused rows, and with bodies that SDKs can read."""

import ast
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.catalog.model import ErrorShape
from proxy.errors import (
    NotConnected,
    NotPermitted,
    Overloaded,
    RateLimited,
    RequestError,
    UnknownService,
    UpstreamTimeout,
)
from proxy.problems import CODES, INTERNAL, NOT_FOUND, PROBLEMS, Answer, Plane, internal, plain, problem, row

# RFC 9209 §2.3: the error types that the table may use
RFC9209 = {
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
}

# Status by status
STATUSES = {
    400: {"bad_request", "ambiguous_target", "ambiguous_key", "websocket_version"},
    401: {"invalid_key"},
    403: {"not_permitted", "credential_path"},
    404: {"unknown_service"},
    405: {"method_not_allowed"},
    408: {"request_timeout"},
    413: {"body_too_large"},
    414: {"target_too_long"},
    417: {"expectation_failed"},
    431: {"headers_too_large"},
    501: {"unsupported_transfer_coding", "upgrade_unsupported"},
    409: {"ambiguous_connection"},
    424: {"not_connected", "reauthorization_required", "connection_config_missing"},
    429: {"rate_limited", "upstream_cooling_down"},
    503: {"refresh_failed", "refresh_in_progress", "overloaded"},
    502: {
        "upstream_unreachable",
        "upstream_tls",
        "upstream_protocol",
        "address_refused",
        "credential_invalid",
    },
    504: {"upstream_timeout"},
}


def leaves(kind: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    """Every error class that nothing derives from."""
    below = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    if not below:
        yield kind
    for sub in below:
        yield from leaves(sub)


def headers(answer: Answer) -> dict[str, str]:
    """Header fields by lower-case name; none is repeated."""
    found = {name.decode().lower(): value.decode() for name, value in answer.headers}
    assert len(found) == len(answer.headers)
    return found


def test_every_leaf_has_its_row_and_every_row_its_leaf():
    """The table and the tree of errors say the same."""
    assert set(PROBLEMS) == set(leaves())


def test_every_row_is_used_somewhere_in_the_program():
    """No row stands for an error that nothing raises; what later parts raise is listed here until they do."""
    later = {"RateLimited", "UpstreamCoolingDown", "RefreshInProgress"}
    root = Path(errors.__file__).parent
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for path in root.rglob("*.py")
        if path.name not in {"errors.py", "problems.py"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    assert {kind.__name__ for kind in PROBLEMS} - used <= later


def test_statuses_and_codes_are_those_that_callers_rely_on():
    """The whole table, code by code; codes are unique."""
    by_status: dict[int, set[str]] = {}
    for entry in PROBLEMS.values():
        by_status.setdefault(entry.status, set()).add(entry.code)
    assert by_status == STATUSES
    assert len(set(CODES)) == len(PROBLEMS) + 1


def test_proxy_status_tokens_are_registered():
    """RFC 9209: ``Proxy-Status`` never names an error type of our own."""
    assert {entry.proxy_status for entry in (*PROBLEMS.values(), INTERNAL, NOT_FOUND)} <= RFC9209


@pytest.mark.parametrize("kind", PROBLEMS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("plane", ["data", "control"])
def test_every_answer_has_all_members_and_headers(kind: type[RequestError], plane: Plane):
    """R156: each failure answers in JSON with a stable code and the request's id, on both planes."""
    answer = problem(kind("what went wrong"), request_id="r-1", plane=plane)
    entry, body, fields = PROBLEMS[kind], json.loads(answer.body), headers(answer)
    expected = {
        "type": f"urn:connector-proxy:problem:{entry.code}",
        "title": entry.title,
        "status": entry.status,
        "detail": "what went wrong",
        "code": entry.code,
        "instance": "r-1",
    }
    tag = {".tag": "other"} if entry.status == 401 else {}
    if plane == "data":
        expected |= {
            "message": "what went wrong",
            "error": {"code": entry.code, "message": "what went wrong"} | tag,
        }
    assert body == expected
    assert answer.status == entry.status
    assert fields["content-type"] == ("application/json" if plane == "data" else "application/problem+json")
    assert fields["content-length"] == str(len(answer.body))
    assert fields["cache-control"] == "no-store"
    assert fields["proxy-status"] == f"connector-proxy; error={entry.proxy_status}"
    assert ("www-authenticate" in fields) == (entry.status == 401)
    assert ("allow" in fields) == (entry.status == 405)
    assert ("via" in fields) == (plane == "data")
    assert "retry-after" not in fields


def test_only_a_bad_key_is_401_and_it_challenges():
    """R85: SDKs forget their token on a 401, so nothing else of ours is one."""
    refused = [kind for kind, entry in PROBLEMS.items() if entry.status == 401]
    assert refused == [errors.InvalidKey]
    answer = problem(errors.InvalidKey("no valid proxy key"), request_id="r", plane="data")
    assert headers(answer)["www-authenticate"] == 'Bearer realm="connector-proxy"'


@pytest.mark.parametrize(("seconds", "sent"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (30.0, "30")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, sent: str):
    """R64: a caller never comes back too early, and never at once."""
    answer = problem(Overloaded("full", retry_after=seconds), request_id="r", plane="data")
    assert headers(answer)["retry-after"] == sent


def test_an_accounts_error_carries_where_to_connect():
    """The answer to a missing account says where a person connects one."""
    url = "http://localhost:8081/connect/slack"
    answer = problem(NotConnected("no account"), request_id="r", plane="data", connect_url=url)
    assert json.loads(answer.body)["connect_url"] == url


def test_a_services_own_shape_takes_code_and_message():
    """Where the service's file declares a shape, its SDK sees that shape, with the file's status."""
    shape = ErrorShape('{"ok":false,"error":"{code}","detail":"{message} {unknown}"}', status=200)
    answer = problem(NotPermitted('no "quotes"\n'), request_id="r", plane="data", shape=shape)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "ok": False,
        "error": "not_permitted",
        "detail": 'no "quotes"\n {unknown}',
    }
    fields = headers(answer)
    assert fields["content-type"] == "application/json"
    assert fields["proxy-status"] == "connector-proxy; error=http_request_denied"


@pytest.mark.parametrize(
    ("kind", "status"), [(NotPermitted, 400), (UnknownService, 400), (NotConnected, 424)]
)
def test_a_shape_may_change_some_statuses_only(kind: type[RequestError], status: int):
    """Where a shape names statuses, only these become its own; the text says which went out."""
    shape = ErrorShape('{"status":{status}}', status=400, statuses=(403, 404))
    answer = problem(kind("no"), request_id="r", plane="data", shape=shape)
    assert (answer.status, json.loads(answer.body)) == (status, {"status": status})


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (NotPermitted, "forbidden"),
        (NotConnected, "bad"),  # 424 is not named
        (Overloaded, "down"),
        (UpstreamTimeout, "late"),
    ],
)
def test_a_shape_may_have_the_services_own_words(kind: type[RequestError], word: str):
    """A status that the file names has the word there, any other that of 400 or 500; our code stands beside it."""
    codes = {400: "bad", 403: "forbidden", 500: "down", 504: "late"}
    shape = ErrorShape('{"code":"{service_code}","proxy_code":"{code}"}', codes=codes)
    body = json.loads(problem(kind("no"), request_id="r", plane="data", shape=shape).body)
    assert body == {"code": word, "proxy_code": PROBLEMS[kind].code}


def test_a_shape_without_status_keeps_the_tables_and_its_own_type():
    """A template may be XML and leave the status alone; a place to connect goes into its only text."""
    shape = ErrorShape("<e c='{code}'>{message}</e>", content_type="text/xml; charset=utf-8")
    answer = problem(
        NotConnected("a < b & 'c'"),
        request_id="r",
        plane="data",
        shape=shape,
        connect_url="http://x/?a=1&b=2",
    )
    assert answer.status == 424
    assert headers(answer)["content-type"] == "text/xml; charset=utf-8"
    assert ET.fromstring(answer.body).text == "a < b & 'c' Connect it here: http://x/?a=1&b=2"  # noqa: S314  # our own


def test_the_control_plane_never_speaks_a_services_shape():
    """A shape is for the service's SDK, and none of those talks to the control plane."""
    shape = ErrorShape('{"ok":false}', status=200)
    answer = problem(RateLimited("slow down"), request_id="r", plane="control", shape=shape)
    assert (answer.status, json.loads(answer.body)["code"]) == (429, "rate_limited")


@given(st.text(st.characters()))
def test_no_text_breaks_out_of_a_template(text: str):
    """R156: whatever an error says, JSON stays JSON and holds the text unchanged; plain text keeps one line."""
    for template in ('{"m":"{message}"}', '[{"m":"{message}","c":"{code}"}]'):
        body = problem(NotPermitted(text), request_id="r", plane="data", shape=ErrorShape(template)).body
        parsed = json.loads(body)
        assert (parsed if isinstance(parsed, dict) else parsed[0])["m"] == text
    line = problem(
        NotPermitted(text),
        request_id="r",
        plane="data",
        shape=ErrorShape("E: {message}", content_type="text/plain"),
    ).body
    assert re.search(rb"[\x00-\x1f\x7f]", line) is None


def test_what_no_row_foresees_tells_nothing():
    """R143: a bare RequestError or any other exception is 500 with a constant text."""
    bare = problem(RequestError("the secret of it"), request_id="r-9", plane="data")
    assert bare == internal(request_id="r-9", plane="data")
    assert bare.status == 500
    assert b"secret" not in bare.body
    assert json.loads(bare.body)["instance"] == "r-9"


def test_a_subclass_of_a_leaf_answers_like_the_leaf():
    """Parts may derive finer errors without a row of their own."""

    class Finer(errors.UpstreamTimeout):
        pass

    assert row(Finer("late")) is PROBLEMS[errors.UpstreamTimeout]


def test_a_row_without_an_error_makes_an_answer_too():
    """The control plane's 404 has the same members as every other problem."""
    answer = plain(NOT_FOUND, "no such page", request_id="r", plane="control")
    assert (answer.status, json.loads(answer.body)["detail"]) == (404, "no such page")
