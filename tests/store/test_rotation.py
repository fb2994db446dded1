"""Rotation of the data key and of the master key: online, resumable, nothing lost wherever it is cut off."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.stores import SqlitePlace, VaultPlace
from support.vaults import MASTER, NOW, OTHER_MASTER, key_file

from proxy.connectors import rotation
from proxy.connectors.masterkey import GivenKey, KeyFile
from proxy.connectors.model import Tokens
from proxy.connectors.oauth.registration import Registration
from proxy.connectors.refresh import journal
from proxy.connectors.schema import MIGRATIONS
from proxy.connectors.seal import master_key
from proxy.connectors.snapshot import DAMAGED
from proxy.connectors.vault import Vault
from proxy.errors import StateError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
ROOT = Path(__file__).resolve().parents[2]
TOKENS = Tokens(Secret("kept-access"), Secret("kept-refresh"), NOW + 3600)
REGISTRATION = Registration("google", "google", "client-1", Secret("kept-client-secret"))
FLOW = {"flow_id": "flow-1", "service": "slack", "name": "work", "registration": "slack"}
LINK = Secret("kept-link")
VALUES = 8  # two connections with two tokens, a registration, a flow, the fingerprints' key, the canary


async def _fill(vault: Vault) -> None:
    for name in ("work", "home"):
        await vault.save_connection("slack", name, TOKENS)
    await vault.save_registration(REGISTRATION)
    await vault.add_flow(FLOW, {"verifier": "kept-verifier"}, link=LINK, expires_at=NOW + 600)


async def _check(vault: Vault, *names: str) -> None:
    """Everything that was sealed opens."""
    for name in names or ("work", "home"):
        held = vault.snapshot.find("slack", name)
        assert held is not None
        assert held.tokens is not None
        assert held.tokens.access_token == TOKENS.access_token
        assert held.tokens.refresh_token == TOKENS.refresh_token
    assert await vault.registration("google") == REGISTRATION
    flow = await vault.flow_of_link(LINK)
    assert flow is not None
    assert flow.sealed == {"verifier": "kept-verifier"}


async def _keys(vault: Vault) -> list[str]:
    return [key["id"] for key in (await vault.status())["data_keys"]]


def test_every_sealed_column_of_the_schema_is_rotated() -> None:
    """A table that gets a column of sealed values has to be in the list that rotation goes through (R137)."""
    statements = " ".join(statement for version in MIGRATIONS for statement in version)
    keyed = set(re.findall(r"(\w+_key_id|mark_key_id) TEXT[^,]*REFERENCES data_keys", statements))
    assert keyed == {one.key_column for one in rotation.SEALED if one.key_column is not None}
    assert rotation.JOURNAL == journal.FOLDER


async def test_everything_moves_under_a_new_key_while_others_work(place: VaultPlace) -> None:
    """On both stores: all values are re-encrypted, the old key goes, another process reads and writes on (R137)."""
    async with place.opened() as vault, place.opened() as server:
        await _fill(vault)
        await server.catch_up()
        (old,) = await _keys(vault)
        told: list[tuple[int, int]] = []
        done = await vault.rotate(batch=3, on_progress=lambda *step: told.append(step), actor="ann")
        assert (done.removed, done.kept, done.resumed) == ((old,), {}, False)
        assert await _keys(vault) == [done.data_key] != [old]
        assert told == [(3, VALUES), (6, VALUES), (VALUES, VALUES)]
        await server.save_connection("slack", "third", TOKENS)
        await server.save_registration(Registration("github", "github", "client-2", Secret("s")))
        assert (await server.status())["data_keys"][0]["sealed"] == VALUES + 3
        await server.catch_up()
        await _check(server, "work", "home", "third")
        await vault.catch_up()
        await _check(vault, "work", "home", "third")
        assert server.mark(Secret("x")) == vault.mark(Secret("x")), "fingerprints stay comparable"
        (row,) = [row for row in await vault.audit() if row.action == "vault.rotated"]
        assert (row.actor, row.detail["removed"]) == ("ann", [old])
    async with place.opened() as again:
        await _check(again, "work", "home", "third")


async def test_new_values_are_under_the_new_key_at_once(place: VaultPlace) -> None:
    """A process that knows nothing of a rotation yet seals its next value under the new key, and counts it."""
    async with place.opened() as vault, place.opened() as server:
        await _fill(vault)
        await server.catch_up()
        (old,) = await _keys(vault)
        async with vault.change("ann", "vault.rotate", "vault") as change:
            await vault.data_keys.make(change.transaction)
        assert server.data_keys.ring.active == old
        await server.save_connection("slack", "third", TOKENS)
        new = server.data_keys.ring.active
        assert new != old
        by_id = {key["id"]: key for key in (await server.status())["data_keys"]}
        assert by_id[new]["sealed"] == 2
        assert by_id[new]["messages"] > 256, "both processes have counted ahead for it"
        assert (await vault.rotate()).resumed


KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from proxy.connectors.postgres import PostgresStore
    from proxy.connectors.sqlite import SqliteStore
    from proxy.connectors.masterkey import GivenKey
    from proxy.connectors.vault import Vault
    from proxy.secret import Secret
    from support.vaults import CATALOG, MASTER, Clock

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    async def rotate(at):
        url = os.environ.get("CONNECTOR_PROXY_DATABASE_URL")
        store = await (PostgresStore.open(Secret(url)) if url else
                       SqliteStore.open(Path(os.environ["CONNECTOR_PROXY_DATA_DIR"])))
        vault = await Vault.over(store, GivenKey(MASTER), catalog=CATALOG, clock=Clock())
        if at == 0:
            reseal = vault._reseal
            async def stop(batch, progress):
                if vault.data_keys.ring.active != first:
                    die()
                return await reseal(batch, progress)
            first = vault.data_keys.ring.active
            vault._reseal = stop
        await vault.rotate(batch=1, on_progress=die)

    for at in range(int(sys.argv[1])):
        child = os.fork()
        if child == 0:
            asyncio.run(rotate(at))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        sys.stdin.readline()  # until what is left has been looked at
"""


async def test_a_rotation_killed_at_every_row_loses_nothing(place: VaultPlace) -> None:
    """Kill -9 after the new key and after each value: all opens each time, and the next call goes on (R137)."""
    async with place.opened() as vault:
        await _fill(vault)
        (old,) = await _keys(vault)
        killed = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", textwrap.dedent(KILLED), str(VALUES + 1)),
            env={**os.environ, **place.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert killed.stdin is not None
        assert killed.stdout is not None
        left = []
        for at in range(VALUES + 1):
            assert (await killed.stdout.readline()).strip() == b"-9", f"boundary {at}"
            await vault.catch_up()
            await _check(vault)
            left.append({key["id"]: key["sealed"] for key in (await vault.status())["data_keys"]}[old])
            killed.stdin.write(b"\n")
        assert await killed.wait() == 0
        assert left[0] == VALUES
        assert left[-1] == 0
        assert left == sorted(left, reverse=True)
        done = await vault.rotate()
        assert len(await _keys(vault)) == 1
    async with place.opened() as again:
        await _check(again)
        assert again.data_keys.ring.active == done.data_key


async def test_a_key_that_something_needs_stays(place: VaultPlace) -> None:
    """A damaged value, and an answer kept outside of the database, keep the key they are sealed with (R137)."""
    async with place.opened() as vault:
        await _fill(vault)
        (first,) = await _keys(vault)
        place.run("UPDATE connections SET access_token = refresh_token WHERE name = 'home'")
        done = await vault.rotate()
        assert (done.removed, done.kept) == ((), {first: 1})
        second = done.data_key
        done = await vault.rotate()
        assert not done.resumed, "a value that does not open must not stand in the way of a new key"
        assert (done.removed, done.kept) == ((second,), {first: 1})
        async with place.opened() as fresh:
            assert {one.name: one.cause for one in fresh.connections()} == {"home": DAMAGED, "work": None}
        await vault.save_connection("slack", "home", TOKENS)
        assert (await vault.rotate(also_needed=lambda: {first})).kept == {first: 0}
        third = vault.data_keys.ring.active
        done = await vault.rotate(keep_last=True)
        assert (done.removed, done.kept) == ((first,), {third: 0})
        await _check(vault)


async def test_answers_kept_outside_name_their_key(tmp_path: Path) -> None:
    """The files of the journal tell which data keys they need; other files, and no folder, tell nothing."""
    async with SqlitePlace(tmp_path / "d").opened() as vault:
        folder = tmp_path / "d" / rotation.JOURNAL
        assert rotation.keys_in(folder) == frozenset()
        folder.mkdir()
        (folder / "note").write_bytes(b"short")
        (folder / "con_1.1.a").write_bytes(vault.data_keys.ring.seal(b"{}", journal._place("con_1.1.a")))
        assert rotation.keys_in(folder) == {vault.data_keys.ring.active}


# --- master key ---------------------------------------------------------------------------------------


def _change(source: KeyFile, vault: Vault, new: Secret) -> "asyncio.Task[None]":
    async def change() -> None:
        with source.changing_to(new):
            await vault.rewrap(new)

    return asyncio.create_task(change())


async def test_a_running_server_follows_a_changed_master_key_file(tmp_path: Path) -> None:
    """The file is changed under a server: it goes on, and takes the new key from the file when it needs it (R136)."""
    place, source = SqlitePlace(tmp_path / "d"), key_file(tmp_path / "d")
    async with place.opened(key=source) as vault, place.opened(key=source) as server:
        await _fill(vault)
        before = source.path.read_text()
        await _change(source, vault, OTHER_MASTER)
        assert source.path.read_text().strip() == OTHER_MASTER.reveal() != before.strip()
        assert not source.next_path.exists()
        await vault.rotate()
        await server.catch_up()
        await _check(server)
        await server.save_connection("slack", "third", TOKENS)
    async with place.opened(key=source) as again:
        await _check(again, "work", "home", "third")
        assert again.data_keys.master_id == master_key(OTHER_MASTER).key_id


async def test_a_server_with_a_given_key_says_what_it_needs(place: VaultPlace) -> None:
    """A server whose key was given goes on after the change; a data key it cannot open is told with the ids (R138)."""
    async with place.opened() as vault, place.opened() as server:
        await _fill(vault)
        await vault.rewrap(OTHER_MASTER)
        await server.catch_up()
        await server.save_connection("slack", "third", TOKENS)
        await _check(server, "work", "home", "third")
        await vault.rotate()
        with pytest.raises(StateError, match=master_key(OTHER_MASTER).key_id):
            await server.catch_up()
        with pytest.raises(StateError, match=master_key(OTHER_MASTER).key_id):
            await server.save_connection("slack", "fourth", TOKENS)
    with pytest.raises(StateError, match="sealed with master key"):
        await place.open(key=GivenKey(MASTER))
    async with place.opened(key=GivenKey(OTHER_MASTER)) as again:
        await _check(again, "work", "home", "third")
        with pytest.raises(StateError, match="already"):
            await again.rewrap(OTHER_MASTER)


async def _cut_off(source: KeyFile, vault: Vault, *, after: bool) -> None:
    """The steps of a change as they come, given up in the middle."""
    with contextlib.suppress(ZeroDivisionError), source.changing_to(OTHER_MASTER):
        if after:
            await vault.rewrap(OTHER_MASTER)
        raise ZeroDivisionError


@pytest.mark.parametrize("cut", ["before the vault changed", "after the vault changed"])
async def test_a_change_of_the_master_key_cut_off_leaves_a_usable_pair(tmp_path: Path, cut: str) -> None:
    """Killed between any two steps the vault opens with what lies in the folder, whichever key counts (R136)."""
    place, source = SqlitePlace(tmp_path / "d"), key_file(tmp_path / "d")
    async with place.opened(key=source) as vault:
        await _fill(vault)
        old = vault.data_keys.master_id
        await _cut_off(source, vault, after=cut.startswith("after"))
        assert source.next_path.exists()
        assert source.path.read_text().strip() != OTHER_MASTER.reveal()
    async with place.opened(key=source) as again:
        await _check(again)
        changed = cut.startswith("after")
        assert (again.data_keys.master_id != old) == changed
        assert (source.path.read_text().strip() == OTHER_MASTER.reveal()) == changed
        await _change(source, again, MASTER)
    async with place.opened(key=source) as again:
        await _check(again)
        assert again.data_keys.master_id == master_key(MASTER).key_id


async def test_two_changes_of_the_master_key_do_not_cross(tmp_path: Path) -> None:
    """While one process changes the key another one is refused: no vault needs a key that was overwritten."""
    place, source = SqlitePlace(tmp_path / "d"), key_file(tmp_path / "d")
    async with place.opened(key=source):
        with source.changing_to(OTHER_MASTER):
            with pytest.raises(StateError, match="another process changes"), source.changing_to(MASTER):
                pytest.fail("two changes at a time")
            assert source.next_path.read_text().strip() == OTHER_MASTER.reveal()


# --- what is lost with which part -------------------------------------------------------------------------


async def test_a_lost_part_is_told_with_what_helps(tmp_path: Path) -> None:
    """Without the key file, or without the vault beside it, the start says what to put back, and makes nothing."""
    place, source = SqlitePlace(tmp_path / "d"), key_file(tmp_path / "d")
    async with place.opened(key=source) as vault:
        await _fill(vault)
    kept = source.path.rename(tmp_path / "kept")
    with pytest.raises(StateError, match="put the file back from your backup"):
        await place.open(key=source)
    assert not source.path.exists(), "no new key may be made over sealed rows"
    kept.rename(source.path)
    async with place.opened(key=source) as vault:
        await _check(vault)
