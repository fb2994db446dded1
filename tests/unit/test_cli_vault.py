"""``vault`` and ``audit``: what they say, refuse and leave behind."""

import contextlib
import csv
import io
import json
import re
import shutil
import sqlite3
import stat
import time
from pathlib import Path

import pytest
from support.commands import Done, Inside

from proxy.connectors.seal import master_key, new_master_key
from proxy.instance import InstanceLock
from proxy.secret import Secret

TOKEN = "kept-7c1e-access"
TOKENS = json.dumps(
    {"access_token": TOKEN, "refresh_token": "kept-7c1e-refresh", "expires_in": 3600}
).encode()


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a vault that has one connection."""
    inside = Inside(tmp_path, capsys, monkeypatch)
    assert inside("connect", "slack", "--tokens-stdin", stdin=TOKENS).code == 0
    return inside


def _state(cli: Inside) -> tuple[str, str | None]:
    (one,) = cli("connections", "list", "--json").document
    return one["state"], one["cause"]


def _key(cli: Inside) -> str:
    return (cli.data / "master.key").read_text().strip()


def test_status_tells_versions_and_counts_and_nothing_secret(cli: Inside) -> None:
    """Schema, identity, ids of keys, counts and states, as a document and as a table; no token, no key."""
    told, shown = cli("vault", "status", "--json"), cli("vault", "status")
    assert told.document["store"] == "sqlite"
    assert told.document["is_copy"] is False
    assert told.document["incarnation"]["stored"] == told.document["incarnation"]["here"]
    assert told.document["master_key"] == master_key(Secret(_key(cli))).key_id
    assert [(key["active"], key["sealed"]) for key in told.document["data_keys"]] == [(True, 4)]
    assert told.document["counts"]["connections"] == 1
    assert told.document["states"] == {"active": 1}
    assert "the original" in shown.out
    for text in (told.out, shown.out, told.err, shown.err):
        assert TOKEN not in text
        assert _key(cli) not in text


def test_backup_restore_and_adopt(cli: Inside) -> None:
    """The whole way: backed up, restored over the vault, frozen until adopted; each step says what is next (R145)."""
    made = cli("vault", "backup", "backup.db", "--json")
    assert made.document["file"] == str(cli.folder / "backup.db")
    assert stat.S_IMODE((cli.folder / "backup.db").stat().st_mode) == 0o600
    again = cli("vault", "backup", "backup.db")
    assert (again.code, "--force" in again.err) == (3, True)
    assert cli("vault", "backup", "backup.db", "--force").code == 0
    assert cli("connections", "remove", "slack@default").code == 0

    restored = cli("vault", "restore", "backup.db")
    assert restored.code == 0
    assert "vault.db.replaced-" in restored.out
    assert "vault adopt" in restored.err
    assert _state(cli) == ("frozen", "copy")
    listed = cli("connections", "list")
    assert "this vault is a copy" in listed.err
    assert "connector-proxy vault adopt" in listed.err

    assert cli("vault", "adopt", "--json").document == {"adopted": True, "is_copy": False, "connections": 1}
    assert _state(cli) == ("active", None)
    assert "original already" in cli("vault", "adopt").out
    actions = [row["action"] for row in cli("audit", "--json").document]
    assert actions == ["vault.adopt", "connection.save"]


def test_restore_on_another_machine(cli: Inside) -> None:
    """Another folder needs the key: without it the restore says so and leaves nothing; with it all is there (R145)."""
    cli("vault", "backup", "backup.db")
    other = cli.folder / "other"
    refused = cli("vault", "restore", "backup.db", "--data-dir", str(other))
    assert refused.code == 3
    assert "master key file" in refused.err
    assert not (other / "vault.db").exists()
    assert not (other / "master.key").exists()
    shutil.copy2(cli.data / "master.key", other / "master.key")
    done = cli("vault", "restore", "backup.db", "--data-dir", str(other), "--json")
    assert {name: done.document[name] for name in ("connections", "replaced", "is_copy")} == {
        "connections": 1,
        "replaced": None,
        "is_copy": True,
    }
    assert "a copy" in cli("vault", "status", "--data-dir", str(other)).out


def test_a_restore_waits_for_no_running_server(cli: Inside) -> None:
    """While a server holds the data folder a restore is refused with its pid, and nothing is touched."""
    cli("vault", "backup", "backup.db")
    before = (cli.data / "vault.db").read_bytes()
    with InstanceLock(cli.data):
        refused = cli("vault", "restore", "backup.db")
    assert refused.code == 3
    assert re.search(r"in use by the server with pid \d+", refused.err)
    assert (cli.data / "vault.db").read_bytes() == before


def test_rotate_tells_what_it_did(cli: Inside) -> None:
    """Progress on standard error, the keys on standard output; everything still opens."""
    (before,) = cli("vault", "status", "--json").document["data_keys"]
    done = cli("vault", "rotate", "--json")
    assert done.document["removed"] == [before["id"]]
    assert done.document["resealed"] == 4
    assert done.document["resumed"] is False
    assert "4 of 4 values re-encrypted" in done.err
    told = cli("vault", "rotate")
    assert "A new data key is in force" in told.out
    assert f"Old data key {done.document['data_key']} is removed." in told.out
    assert _state(cli) == ("active", None)


def test_a_new_master_key_in_its_file(cli: Inside) -> None:
    """The file holds another key afterwards, which opens the vault; it is shown nowhere (R136, R143)."""
    before = _key(cli)
    done = cli("vault", "rotate", "--new-master-key", "--json")
    after = _key(cli)
    assert after != before
    assert done.document["master_key"] == master_key(Secret(after)).key_id
    assert done.document["before"] == master_key(Secret(before)).key_id
    assert stat.S_IMODE((cli.data / "master.key").stat().st_mode) == 0o600
    assert after not in done.out + done.err
    assert _state(cli) == ("active", None)
    given = new_master_key()
    told = cli("vault", "rotate", "--master-key-stdin", stdin=given.reveal().encode() + b"\n")
    assert told.code == 0
    assert _key(cli) == given.reveal()
    assert _state(cli) == ("active", None)


def test_a_master_key_from_the_environment(cli: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is given cannot be made here, but changed to; the next start needs it, and says so without it."""
    old, new = _key(cli), new_master_key().reveal()
    (cli.data / "master.key").unlink()
    monkeypatch.setenv("CONNECTOR_PROXY_MASTER_KEY", old)
    refused = cli("vault", "rotate", "--new-master-key")
    assert (refused.code, "--master-key-stdin" in refused.err) == (3, True)
    for given, code in ((b"too short", 3), (b"", 3), (old.encode(), 3), (new.encode(), 0)):
        assert cli("vault", "rotate", "--master-key-stdin", stdin=given).code == code
    failed = cli("connections", "list")
    assert failed.code == 3
    assert master_key(Secret(new)).key_id in failed.err
    assert new not in failed.err
    monkeypatch.setenv("CONNECTOR_PROXY_MASTER_KEY", new)
    assert _state(cli) == ("active", None)


@pytest.mark.parametrize(("command", "program"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_postgresql_has_its_own_tools(
    cli: Inside, monkeypatch: pytest.MonkeyPatch, command: str, program: str
) -> None:
    """For a vault in PostgreSQL backup and restore name the command to use instead, and connect to nothing."""
    monkeypatch.setenv("CONNECTOR_PROXY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    refused = cli("vault", command, "file")
    assert refused.code == 3
    assert program in refused.err
    assert "$DATABASE_URL" in refused.err


@pytest.mark.parametrize("command", ["status", "adopt", "backup"])
def test_where_there_is_no_vault_none_is_made(cli: Inside, command: str) -> None:
    """Commands that look at a vault make none."""
    empty = cli.folder / "empty"
    done = cli("vault", command, *(["file"] if command == "backup" else []), "--data-dir", str(empty))
    assert done.code == 3
    assert "no vault" in done.err
    assert not (empty / "vault.db").exists()


def test_the_two_kinds_of_master_key_exclude_each_other(cli: Inside) -> None:
    """Both options at once are a usage error."""
    assert cli("vault", "rotate", "--new-master-key", "--master-key-stdin").code == 2


def test_the_audit_is_told_since_a_time(cli: Inside) -> None:
    """Newest first, from a time or a while ago on, as table or document; a time that is none is refused (R157)."""
    cli("connections", "freeze", "slack")
    rows = cli("audit", "--json").document
    assert [row["action"] for row in rows] == ["connection.freeze", "connection.save"]
    assert rows[0]["actor"] == "command line"
    assert [row["action"] for row in cli("audit", "--limit", "1", "--json").document] == ["connection.freeze"]
    assert len(cli("audit", "--since", "1h", "--json").document) == 2
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    assert cli("audit", "--since", later, "--json").document == []
    assert "nothing is in the audit" in cli("audit", "--since", later).out
    assert "connection.freeze" in cli("audit").out
    assert cli("audit", "--since", "yesterday").code == 3


def test_a_list_of_connections_says_what_to_do(cli: Inside) -> None:
    """Under the list stands for each connection out of use why, and the command that mends it."""
    cli("connections", "freeze", "slack")
    told: Done = cli("connections", "list")
    assert "slack@default was frozen by an operator" in told.err
    assert "connector-proxy connections freeze slack@default --thaw" in told.err
    shown = cli("connections", "show", "slack", "--json").document
    assert shown["remedy"] == "connector-proxy connections freeze slack@default --thaw"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = "https://example.com/hook"', "belong together"),
        ('secret = { env = "HOOK" }', "belong together"),
        ('url = "example.com/hook"\nsecret = { env = "HOOK" }', "must be http"),
        ('url = "https://example.com/hook#part"\nsecret = { env = "HOOK" }', "without fragment"),
        ('url = "https://example.com/hook"\nsecret = { env = "HOOK" }', "HOOK is not set"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused(cli: Inside, lines: str, said: str) -> None:
    """Half a webhook, an address that is none, a secret that is not there: told by ``check``, all exit 3."""
    (cli.folder / "proxy.toml").write_text(f"[webhook]\n{lines}\n")
    done = cli("check")
    assert done.code == 3
    assert said in done.err


def test_the_audit_is_filtered_and_exported(cli: Inside) -> None:
    """By key, connection, action and time; exported oldest first as JSON lines or a table, with number and hash (R157)."""
    key = cli("keys", "create", "backend", "--allow", "slack", "--json").document["id"]
    assert cli("connections", "freeze", "slack").code == 0
    actions = {
        ("--key", "backend"): ["key.create"],
        ("--key", key): ["key.create"],
        ("--connection", "slack@default"): ["connection.freeze", "connection.save"],
        ("--connection", "slack", "--action", "connection.save"): ["connection.save"],
        ("--user", "ada"): [],
        ("--until", "1h"): [],
    }
    for words, wanted in actions.items():
        assert [one["action"] for one in cli("audit", *words, "--json").document] == wanted, words
    lines = [json.loads(line) for line in cli("audit", "export").out.splitlines()]
    assert [one["number"] for one in lines] == [1, 2, 3]
    assert [one["action"] for one in lines] == ["connection.save", "key.create", "connection.freeze"]
    rows = list(csv.DictReader(io.StringIO(cli("audit", "export", "--format", "csv", "--since", "1h").out)))
    assert [(row["action"], row["hash"]) for row in rows] == [(one["action"], one["hash"]) for one in lines]
    assert json.loads(rows[1]["detail"]) == lines[1]["detail"]
    assert cli("audit", "export", "--since", "later").code == 3


def test_a_changed_audit_is_a_fault(cli: Inside) -> None:
    """``audit verify`` and ``check`` name the row that was changed, and end with 1 and 3; before that all is well (R157)."""
    told = cli("audit", "verify", "--json").document
    assert (told["intact"], told["rows"], told["faults"]) == (True, 1, [])
    assert cli("check").code == 0
    assert cli("audit", "verify", "--head", told["head"]).out.endswith("intact\n")
    assert cli("audit", "verify", "--head", "5" + told["head"][1:]).code == 1
    with contextlib.closing(sqlite3.connect(cli.data / "vault.db", isolation_level=None)) as database:
        database.execute("UPDATE audit SET actor = 'nobody'")
    found = cli("audit", "verify")
    assert (found.code, "row 1: was changed" in found.err, "1 faults" in found.out) == (1, True, True)
    checked = cli("check")
    assert (checked.code, "audit: row 1: was changed" in checked.err) == (3, True)


def test_a_key_widened_in_the_file_is_named_and_signed_only_on_word(cli: Inside) -> None:
    """``check`` and ``vault sign`` name the row; it is in force again only after --all; pasted commands find the vault."""
    where = ("--data-dir", str(cli.data))
    made = cli("keys", "create", "ci", "--allow", "slack:GET", "--json").document
    with contextlib.closing(sqlite3.connect(cli.data / "vault.db")) as database, database:
        database.execute("UPDATE keys SET permits = '[\"*\"]'")
    assert cli("keys", "list", "--json").document == []
    checked = cli("check", *where)
    assert checked.code == 0
    told = f"the row {made['id']!r} of keys was changed outside of connector-proxy and is not in force"
    assert told in checked.out + checked.err
    assert f"'connector-proxy vault sign --data-dir {cli.data}'" in checked.out + checked.err
    rows = [{"table": "keys", "row": made["id"], "why": "changed"}]
    assert cli("vault", "sign", "--json").document == {"rows": rows, "signed": False}
    assert cli("keys", "list", "--json").document == []
    signed = cli("vault", "sign", "--all")
    assert (made["id"] in signed.out, str(cli.data) in signed.err) == (True, True)
    assert [one["permits"] for one in cli("keys", "list", "--json").document] == [["*"]]
    assert "as this release wrote it" in cli("vault", "sign").out
