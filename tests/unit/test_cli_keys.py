"""``keys``: what is made, told, kept and refused."""

import contextlib
import json
import re
import sqlite3
import time
from datetime import datetime
from pathlib import Path

import pytest
from support.commands import Inside

from proxy import keys

KEY = re.compile(r"cpk_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}")


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a data folder of their own."""
    return Inside(tmp_path, capsys, monkeypatch)


def test_create_prints_the_key_alone_on_standard_output(cli: Inside) -> None:
    """``KEY=$(connector-proxy keys create ...)`` works; the rest is on standard error, with the data folder."""
    done = cli("keys", "create", "backend", "--allow", "slack", "--allow", "github:GET")
    assert done.code == 0
    assert keys.is_well_formed(done.out.strip().encode())
    assert str(cli.data) in done.err
    assert KEY.search(done.err) is None


def test_create_as_json_has_the_promised_members(cli: Inside) -> None:
    """Programs may rely on id, key, permits and expires_at, times in RFC 3339 (R84, R90)."""
    before = time.time()
    told = cli(
        "keys", "create", "b", "--allow", "slack:GET,POST:/api/**", "--expires", "30d", "--json"
    ).document
    assert {"id", "key", "permits", "expires_at"} == set(told)
    assert told["id"] == keys.key_id_of(told["key"].encode())
    assert told["permits"] == ["slack:GET,POST:/api/**"]
    expires = datetime.fromisoformat(told["expires_at"]).timestamp()
    assert 30 * 86_400 - 2 < expires - before < 30 * 86_400 + 60


def test_only_a_hash_is_stored(cli: Inside) -> None:
    """No file of the data folder holds the key or its secret half (R84)."""
    key = cli("keys", "create", "a", "--allow", "*").out.strip().encode()
    stored = b"".join(path.read_bytes() for path in cli.data.iterdir())
    assert key not in stored
    assert key[13:] not in stored
    assert keys.digest(key) in stored


def test_all_faults_of_a_key_are_told_at_once(cli: Inside) -> None:
    """A wrong permit, root, network and time are four sentences and exit status 3; nothing is stored."""
    done = cli(
        "keys",
        "create",
        "a",
        "--allow",
        "slak",
        "--root",
        "githb",
        "--network",
        "10.0.0.1/8",
        "--expires",
        "1y",
    )
    assert done.code == 3
    assert [part in done.err for part in ('"slack"', '"github"', "10.0.0.1/8", "1y")] == [True] * 4
    assert cli("keys", "list", "--json").document == []


@pytest.mark.parametrize("permit", ["slack:get", "slack:GET:", "*@work", "Slack", "slack::/a", ""])
def test_permits_that_make_no_sense_are_refused(cli: Inside, permit: str) -> None:
    """A key never gets a permit that means something else than it reads (R90)."""
    assert cli("keys", "create", "a", "--allow", permit).code == 3


def test_a_key_needs_a_permit(cli: Inside) -> None:
    """Leaving out --allow is a mistake in usage, exit status 2."""
    assert cli("keys", "create", "a").code == 2


def test_expiry_in_the_past_or_without_offset_is_refused(cli: Inside) -> None:
    """A time that could be read in two ways, or never held, is not taken."""
    for text in ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00", "0d", "-1d", "30"):
        assert cli("keys", "create", "a", "--allow", "*", "--expires", text).code == 3, text


def test_calls_that_were_too_many_to_be_told_apart_are_told(cli: Inside) -> None:
    """What an observing permit would have refused is never told as nothing: the rest is a row in words (R157)."""
    told = cli("keys", "create", "trial", "--allow", "slack:GET", "--observe", "--json").document
    assert "nothing" in cli("keys", "observed", "trial").out
    place = (told["id"], "other", "other", "other", 7, 1_800_000_000_000, 1_800_000_000_000)
    with contextlib.closing(sqlite3.connect(cli.data / "vault.db", isolation_level=None)) as vault:
        vault.execute("INSERT INTO observed VALUES (?, ?, ?, ?, ?, ?, ?)", place)
    shown = cli("keys", "observed", "trial")
    assert "nothing" not in shown.out
    assert "(too many to be told apart)  7 " in shown.out
    (one,) = cli("keys", "observed", "trial", "--json").document
    assert (one["service"], one["path"], one["requests"]) == ("other", "other", 7)


def test_generate_stores_nothing_and_gives_both_halves(cli: Inside) -> None:
    """The key and the hash to declare belong together; no data folder is made."""
    told = cli("keys", "generate", "--json").document
    assert told["hash"] == "sha256:" + keys.digest(told["key"].encode()).hex()
    key, hashed = cli("keys", "generate").out.split()
    assert hashed == "sha256:" + keys.digest(key.encode()).hex()
    assert not cli.data.exists()


def test_list_shows_stored_and_declared_keys_without_making_a_vault(cli: Inside) -> None:
    """Looking changes nothing: a declared key is listed where there is no data folder at all."""
    digest = "sha256:" + "ab" * 32
    (cli.folder / "proxy.toml").write_text(f'[keys.side]\nhash = "{digest}"\nallow = ["slack"]\n')
    told = cli("keys", "list", "--json").document
    assert [(one["id"], one["state"], one["permits"]) for one in told] == [
        ("declared:side", "declared", ["slack"])
    ]
    assert not cli.data.exists()
    cli("keys", "create", "stored", "--allow", "*")
    assert {one["name"] for one in cli("keys", "list", "--json").document} == {"side", "stored"}


def test_revoke_by_name_or_id_and_again(cli: Inside) -> None:
    """Revoking twice is no failure, and tells that it was done before."""
    key_id = cli("keys", "create", "a", "--allow", "*", "--json").document["id"]
    cli("keys", "create", "b", "--allow", "*")
    assert cli("keys", "revoke", key_id, "--json").document == {"id": key_id, "name": "a", "revoked": True}
    assert cli("keys", "revoke", "b", "--json").document["revoked"] is True
    assert cli("keys", "revoke", "a", "--json").document["revoked"] is False
    assert {one["state"] for one in cli("keys", "list", "--json").document} == {"revoked"}


def test_revoke_takes_no_key_on_the_command_line(cli: Inside) -> None:
    """A key in a process list would be a leak; the refusal does not repeat it (R143)."""
    key = cli("keys", "create", "a", "--allow", "*").out.strip()
    done = cli("keys", "revoke", key)
    assert done.code == 3
    assert key not in done.out + done.err


def test_revoking_an_unknown_or_declared_key_tells_what_to_do(cli: Inside) -> None:
    """A misspelt name gets the nearest one; a declared key is taken out of the settings instead."""
    cli("keys", "create", "backend", "--allow", "*")
    done = cli("keys", "revoke", "bakend")
    assert (done.code, '"backend"' in done.err) == (3, True)
    (cli.folder / "proxy.toml").write_text(
        '[keys.side]\nhash = "sha256:' + "ab" * 32 + '"\nallow = ["slack"]\n'
    )
    done = cli("keys", "revoke", "side")
    assert (done.code, "settings" in done.err) == (3, True)


def test_revoke_all_counts_and_names_what_stays(cli: Inside) -> None:
    """revoke-all stops every key of the vault and says which declared ones it cannot stop."""
    cli("keys", "create", "a", "--allow", "*")
    cli("keys", "create", "b", "--allow", "*")
    (cli.folder / "proxy.toml").write_text(
        '[keys.side]\nhash = "sha256:' + "ab" * 32 + '"\nallow = ["slack"]\n'
    )
    done = cli("keys", "revoke-all", "--json")
    assert done.document == {"revoked": 2, "declared": ["side"]}
    assert "side" in done.err


def test_a_name_is_taken_while_its_key_is_in_force(cli: Inside) -> None:
    """Two living keys never share a name; after a revocation it is free again."""
    assert cli("keys", "create", "a", "--allow", "*").code == 0
    assert cli("keys", "create", "a", "--allow", "*").code == 3
    cli("keys", "revoke", "a")
    assert cli("keys", "create", "a", "--allow", "*").code == 0


def test_tables_take_nothing_for_markup(cli: Inside) -> None:
    """Values are shown as they are, not as colours or links of the terminal."""
    cli("keys", "create", "a", "--allow", "slack:GET:/api/[x]/**")
    assert "/api/[x]/**" in json.dumps(cli("keys", "list").out)


def test_a_restricted_key_is_listed_as_it_was_made(cli: Inside) -> None:
    """Words go into every permit; rate, number at once and networks are shown by ``keys list`` (R90)."""
    made = cli(
        "keys", "create", "r", "--allow", "slack", "--allow", "notion@team:GET", "--read-only", "--observe",
        "--rate", "100/m", "--concurrency", "4", "--network", "10.0.0.0/8", "--network", "unix", "--json",
    ).document  # fmt: skip
    permits = ["slack:observe,read-only", "notion@team:observe,read-only,GET"]
    assert made["permits"] == permits
    (listed,) = cli("keys", "list", "--json").document
    shown = {name: listed[name] for name in ("permits", "rate", "concurrency", "networks")}
    assert shown == {
        "permits": permits,
        "rate": "100/m",
        "concurrency": 4,
        "networks": ["10.0.0.0/8", "unix"],
    }
    assert "100/m, 4 at once, 10.0.0.0/8 unix" in " ".join(cli("keys", "list").out.split())


def test_a_service_without_a_list_refuses_read_only(cli: Inside) -> None:
    """The preset is refused by the service's name, whether it is asked for by flag, by word, or for all (R90)."""
    for arguments in (
        ("--allow", "discord", "--read-only"),
        ("--allow", "discord:read-only"),
        ("--allow", "*", "--read-only"),
    ):
        done = cli("keys", "create", "x", *arguments)
        assert done.code == 3
        assert "discord" in done.err
        assert "slack" in done.err
    assert cli("keys", "list", "--json").document == []


def test_limits_that_make_no_sense(cli: Inside) -> None:
    """A rate or a number at once that makes no sense is named, and nothing is stored (R160)."""
    for option, value, named in (("--rate", "often", "'often'"), ("--concurrency", "0", "concurrency")):
        done = cli("keys", "create", "x", "--allow", "slack", option, value)
        assert done.code == 3
        assert named in done.err
    assert cli("keys", "list", "--json").document == []
