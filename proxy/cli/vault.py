"""``vault``: what it is, backups, rotation of its keys, and copies of it."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy import instance
from proxy.assembly.vaults import master_key_of
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.session import (
    ACTOR,
    ConfigOption,
    DataDirOption,
    JsonOption,
    run_loop,
    settings_of,
    vault_if_any,
    with_vault,
)
from proxy.cli.signing import sign
from proxy.connectors.backup import back_up
from proxy.connectors.masterkey import KeyFile
from proxy.connectors.restore import restore
from proxy.connectors.rotation import JOURNAL, keys_in
from proxy.connectors.seal import master_key, new_master_key
from proxy.connectors.vault import Vault
from proxy.connectors.vault_upkeep import Rotated
from proxy.errors import ConfigurationError, Fault, StateError
from proxy.instance import InstanceLock
from proxy.operations.moments import rfc3339
from proxy.secret import Secret
from proxy.settings import Settings

group = typer.Typer(help="The vault: status, backup, restore, key rotation.", no_args_is_help=True)
_MAX_KEY = 4096


@group.command("status")
def status(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Show versions, keys in use and counts of the vault; nothing secret."""
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, _: Catalog) -> Mapping[str, Any]:
        return await vault.status()

    found = vault_if_any(settings, work)
    if found is None:
        raise StateError(f"there is no vault in {settings.storage.data_dir} yet")
    told = {**found, "adopted_at": rfc3339(found["adopted_at"])}
    told["data_keys"] = [{**key, "created_at": rfc3339(key["created_at"])} for key in found["data_keys"]]
    if as_json:
        output.document(told)
        return
    shown = {
        **{name: told[name] for name in ("store", "schema", "sequence")},
        "this is": "a copy" if told["is_copy"] else "the original",
        "incarnation": told["incarnation"]["here"],
        "since": told["adopted_at"],
        "master key": told["master_key"],
        **told["counts"],
        "states": output.pairs(told["states"]),
    }
    output.table(("", ""), list(shown.items()), empty="")
    output.table(
        ("data key", "", "values", "counted", "made"),
        [
            (
                key["id"],
                "in force" if key["active"] else "",
                key["sealed"],
                key["messages"],
                key["created_at"],
            )
            for key in told["data_keys"]
        ],
        empty="",
    )


@group.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it, mode 0600.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a backup while servers run. The master key is not in it: keep that elsewhere."""
    settings = settings_of(config, data_dir)
    _refuse_postgres(
        settings,
        "its own tools back it up: 'pg_dump --format=custom --file=FILE \"$DATABASE_URL\"'; "
        "the master key is kept apart from it",
    )
    made = back_up(settings.storage.data_dir, file.absolute(), force=force)
    if as_json:
        output.document(made.document())
    else:
        output.line(f"{made.path}: {made.size} bytes, sealed as the vault is.")
        output.note("The master key is not in it. Without that key nobody can open it, you neither.")


@group.command("restore")
def restore_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup, or a copied vault.db.")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the vault's place; the vault that was there is kept beside it."""
    settings = settings_of(config, data_dir)
    _refuse_postgres(
        settings,
        "its own tools restore it: stop the servers, then 'pg_restore --clean --if-exists "
        '--single-transaction --dbname="$DATABASE_URL" FILE\'; in another database than the original it '
        "begins as a copy, until 'connector-proxy vault adopt'",
    )
    folder = settings.storage.data_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with InstanceLock(folder):
        made = run_loop(restore(file.absolute(), folder, master_key_of(settings), now=time.time()))
    if as_json:
        output.document(made.document())
    else:
        output.line(f"{made.path}: restored with {made.connections} connections and {made.keys} keys.")
        if made.replaced is not None:
            output.line(f"The vault before it is {made.replaced}")
        if made.revoked:
            output.line(f"{made.revoked} keys that were revoked since the backup stay revoked.")
        elif made.revoked is None:
            output.note("Keys that were revoked since the backup are in force again: see 'keys list'.")
        if made.password_kept:
            output.line("The operator's password stays as it was just now: it was set after the backup.")
        output.note(
            "It is a copy until you say otherwise: its connections are frozen, living tokens serve. Once no "
            "other proxy works on the original, say 'connector-proxy vault adopt'."
        )
    output.changed(folder)


@group.command("adopt")
def adopt(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Make a copied or restored vault the original: it refreshes its connections from now on."""
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, _: Catalog) -> tuple[bool, int]:
        return await vault.adopt(actor=ACTOR), len(vault.connections())

    done = vault_if_any(settings, work)
    if done is None:
        raise StateError(f"there is no vault in {settings.storage.data_dir} yet")
    adopted, count = done
    if as_json:
        output.document({"adopted": adopted, "is_copy": False, "connections": count})
    elif adopted:
        output.line(f"This vault is the original now; its {count} connections are refreshed when due.")
    else:
        output.line("This vault is the original already.")
    output.changed(settings.storage.data_dir)


@group.command("rotate")
def rotate(
    *,
    new_master_key_: Annotated[
        bool,
        typer.Option("--new-master-key", help="Instead: a new master key in the master key's file."),
    ] = False,
    master_key_stdin: Annotated[
        bool,
        typer.Option("--master-key-stdin", help="Instead: change to the master key on standard input."),
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new data key and re-encrypt everything under it, while servers run; or change the master key.

    A rotation that was cut off goes on when this is called again.
    """
    if new_master_key_ and master_key_stdin:
        raise typer.BadParameter("say one of --new-master-key and --master-key-stdin", param_hint="rotate")
    settings = settings_of(config, data_dir)
    if new_master_key_ or master_key_stdin:
        _change_master_key(settings, _read_key() if master_key_stdin else None, as_json=as_json)
    else:
        _rotate_data_key(settings, as_json=as_json)
    output.changed(settings.storage.data_dir)


def _rotate_data_key(settings: Settings, *, as_json: bool) -> None:
    shared = settings.storage.database_url is not None
    told_at = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told_at
        if done == total or time.monotonic() - told_at > 1:
            told_at = time.monotonic()
            output.note(f"{done} of {total} values re-encrypted")

    async def work(vault: Vault, _: Catalog) -> Rotated:
        return await vault.rotate(
            also_needed=lambda: keys_in(settings.storage.data_dir / JOURNAL),
            keep_last=shared,
            on_progress=progress,
            actor=ACTOR,
        )

    done = with_vault(settings, work)
    if as_json:
        output.document(
            {
                "data_key": done.data_key,
                "resealed": done.resealed,
                "removed": list(done.removed),
                "kept": dict(done.kept),
                "resumed": done.resumed,
            }
        )
        return
    how = "A rotation that was cut off is complete" if done.resumed else "A new data key is in force"
    output.line(f"{how}: {done.data_key}, {done.resealed} values are under it.")
    for key_id in done.removed:
        output.line(f"Old data key {key_id} is removed.")
    for key_id, count in done.kept.items():
        why = f"{count} values that do not open need it" if count else _WHY_KEPT[shared]
        output.line(f"Old data key {key_id} stays: {why}.")


_WHY_KEPT: Mapping[bool, str] = {
    True: "another host may hold answers of providers under it; the next rotation removes it",
    False: "answers of providers that wait in refresh-journal need it; the next rotation removes it",
}


def _read_key() -> Secret:
    if sys.stdin.isatty():
        raise typer.BadParameter(
            "standard input is a terminal, which would show the key: pipe it in",
            param_hint="--master-key-stdin",
        )
    body = sys.stdin.buffer.read(_MAX_KEY + 1)
    text = body.decode("ascii", "replace").strip()
    if not text or len(body) > _MAX_KEY:
        raise ConfigurationError(Fault("standard input", "holds no master key: 32 bytes in base64url"))
    return Secret(text)


def _change_master_key(settings: Settings, given: Secret | None, *, as_json: bool) -> None:
    source = master_key_of(settings)
    folder = settings.storage.data_dir
    if given is None and not isinstance(source, KeyFile):
        raise ConfigurationError(
            Fault(
                "storage.master_key",
                "is not a file that this command could write: make a key yourself and hand it in with "
                "--master-key-stdin, then put it where the setting reads it",
            )
        )
    new = new_master_key() if given is None else given
    new_id = master_key(new).key_id

    async def work(vault: Vault, _: Catalog) -> str:
        old = vault.data_keys.master_id
        if isinstance(source, KeyFile):
            with source.changing_to(new):
                await vault.rewrap(new, actor=ACTOR)
        else:
            await vault.rewrap(new, actor=ACTOR)
        return old

    old_id = with_vault(settings, work)
    told = instance.running(folder)
    where = str(source.path) if isinstance(source, KeyFile) else None
    if as_json:
        output.document(
            {
                "master_key": new_id,
                "before": old_id,
                "file": where,
                "restart_needed": bool(told) and not where,
            }
        )
    elif where is not None:
        output.line(f"The vault is sealed with master key {new_id} now, which is in {where}.")
        output.note("Backups made before need the old key: keep a copy of it as long as you keep them.")
    else:
        output.line(f"The vault is sealed with master key {new_id} now, no longer with {old_id}.")
        output.note("Put the new key where storage.master_key reads it before the next start.")
    if told is not None and where is None:
        output.note(
            f"The server with pid {told['pid']} goes on with what it has: start it again with the new key "
            "before the next rotation."
        )


group.command("sign")(sign)


def _refuse_postgres(settings: Settings, remedy: str) -> None:
    if settings.storage.database_url is not None:
        raise StateError(f"the vault is in PostgreSQL, and {remedy}")
