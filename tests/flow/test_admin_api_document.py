"""The admin API's OpenAPI document: what it says is what the server does, for hundreds of made-up requests.

More of them: ``make api-fuzz EXAMPLES=500``.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta
from support.admin import Api, Site
from support.commands import ROOT, environment, unmeasured
from support.depth import examples
from support.serving import Serve

from proxy.operations import fields
from proxy.operations.events import EVENTS
from proxy.operations.schema import faults_of
from proxy.operations.table import OPERATIONS

EXAMPLES = os.environ.get("API_EXAMPLES", "2")
LIMIT = 240.0 if EXAMPLES == "2" else 3600.0  # a third of a minute of work, on a machine that others use too
SETTINGS = """
[services]
enabled = ["slack", "github"]
[egress]
connect_to = { "slack.com:443" = "127.0.0.1:9", "api.github.com:443" = "127.0.0.1:9", "github.com:443" = "127.0.0.1:9" }
"""
PROGRAM = (sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "proxy.toml").write_text(SETTINGS)
    with Serve(folder) as server:
        yield Site(server, folder)


@pytest.mark.timeout(LIMIT + 20)
def test_the_server_does_what_its_document_says(site: Site, tmp_path: Path) -> None:
    """Every check of schemathesis holds for every operation: statuses, bodies, headers, refusals, authentication; never 500."""
    made = json.loads(site.run("tokens", "create", "fuzz", "--scope", "admin", "--json"))
    url = f"http://127.0.0.1:{site.address[1]}/api/v1/openapi.json"
    options = ("--checks", "all", "--max-examples", EXAMPLES, "--seed", "1", "--workers", "1", "--no-color")
    config = ("--config-file", str(ROOT / "tests" / "support" / "schemathesis.toml"))
    more = {
        "OWN_TOKEN": f"{made['id']},fuzz",
        "PYTHONPATH": f"{ROOT / 'tests'}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = subprocess.run(
        [*PROGRAM, *config, "run", url, "-H", f"Authorization: Bearer {made['token']}", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=unmeasured(environment(tmp_path, more)),
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Tested: +(\d+)", done.stdout).group(1) == str(len(OPERATIONS) + 1), done.stdout
    assert site.api("read")("GET", "/health").status == 200
    assert "control_plane_failed" not in site.server.log


def test_the_document_lists_what_is_served(site: Site) -> None:
    """Each operation stands in the document once, with its scopes, and every schema in it is one of JSON Schema 2020-12."""
    document = site.api("keys:write")("GET", "/openapi.json").body
    assert document["openapi"] == "3.1.0"
    listed = {
        (method.upper(), path): one
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    }
    assert set(listed) == {(one.method, one.path) for one in (*OPERATIONS.values(), EVENTS)}
    assert len({one["operationId"] for one in listed.values()}) == len(listed)
    stream = listed["GET", "/events"]["responses"]["200"]["content"]["text/event-stream"]
    meta.validate(stream["schema"])
    assert [one["properties"]["event"]["const"] for one in stream["schema"]["oneOf"]] == [*EVENTS.events]
    for one in OPERATIONS.values():
        meta.validate(one.answer)
        if one.body is not None:
            meta.validate(one.body)
            assert {"400", "415", "413"} <= set(listed[one.method, one.path]["responses"])
    assert Api(site.address)("GET", "/openapi.json").status == 401


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["slack", "a", "30d", "read", "", "x\n"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = sorted({name for one in OPERATIONS.values() if one.body for name in one.body["properties"]})


@pytest.mark.parametrize("name", [one.name for one in OPERATIONS.values() if one.body])
@settings(max_examples=examples(150), deadline=None)
@given(body=VALUES | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_our_checks_are_those_of_json_schema(name: str, body: object) -> None:
    """What is refused as malformed is exactly what a JSON Schema library refuses, and no fault repeats a value."""
    schema = OPERATIONS[name].body
    assert schema is not None
    ours = faults_of(schema, body, "")
    assert (not ours) == Draft202012Validator(schema).is_valid(body)


def test_no_fault_repeats_a_value() -> None:
    """A token in the wrong field or of a wrong form is not in the refusal (R143)."""
    canary = "canary-secret\n"
    for one in OPERATIONS.values():
        if one.body:
            body = dict.fromkeys(one.body["properties"], canary)
            assert "canary" not in repr(faults_of(one.body, body, ""))
    for schema in fields.PATH.values():
        assert "canary" not in repr(faults_of(schema, canary, "path"))
