"""``connector-proxy run -- PROGRAM`` for SDKs that take their base URL from the environment: not a line of them changes."""

import asyncio
from pathlib import Path

import pytest
from acting import interpreter
from stage import Stage
from support.spellings import found

from proxy.keys import is_well_formed

pytestmark = pytest.mark.sdk_full

DROPBOX = """
import os
from dropbox import Dropbox
key = os.environ["PROXY_KEY"]
print(Dropbox(key).users_get_current_account().name.display_name, key)
"""
BIGQUERY = """
import os
from google.cloud import bigquery
from google.oauth2.credentials import Credentials
key = os.environ["PROXY_KEY"]
print(bigquery.Client(project="p", credentials=Credentials(key)).get_dataset("a").friendly_name, key)
"""
AIRTABLE = """
import Airtable from "airtable";
const record = await new Airtable().base("appA")("Tasks").find("rec1");
console.log(record.get("Name"), process.env.PROXY_KEY);
"""


@pytest.mark.parametrize(
    ("service", "language", "program", "told"),
    [
        pytest.param("dropbox", "python", DROPBOX, "Grace ✓", id="dropbox (python)"),
        pytest.param("googlebigquery", "python", BIGQUERY, "Übung", id="google-cloud-bigquery (python)"),
        pytest.param("airtable", "node", AIRTABLE, "n1", id="airtable (node)"),
    ],
)
def test_an_sdk_configured_by_its_environment_alone(
    service: str,
    language: str,
    program: str,
    told: str,
    *,
    stage: Stage,
    runner: asyncio.Runner,
    tmp_path: Path,
) -> None:
    """It reaches its service with the account's token and nobody else, over TLS where it insists; the run's key stays here."""
    trap = tmp_path / "trap.txt"
    at = ["--input-type=module", "--eval"] if language == "node" else ["-c"]
    done = runner.run(stage.started(service, [*interpreter(language), *at, program], trap))
    assert done.status == 0, done.err
    answer, _, key = done.out.strip().rpartition(" ")
    assert answer == told
    assert is_well_formed(key.encode())
    assert not trap.exists()
    assert len(done.calls) == 1
    assert done.faults == ()
    assert [leak for piece in done.recorded for leak in found(piece, key)] == []
