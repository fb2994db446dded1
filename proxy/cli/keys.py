"""``keys``: make, list and revoke proxy keys."""

import hashlib
import time
from collections.abc import Mapping
from typing import Annotated

import typer

from proxy import assembly, keys
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.session import (
    ACTOR,
    ConfigOption,
    DataDirOption,
    JsonOption,
    settings_of,
    vault_if_any,
    with_vault,
)
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.keys import KeyRecord, Kind
from proxy.operations.keys import KeyRequest, create_key, find_key, key_document, key_state
from proxy.operations.moments import rfc3339
from proxy.secret import Secret

group = typer.Typer(help="Proxy keys: what callers present instead of real tokens.", no_args_is_help=True)


def _permits_help() -> str:
    return "SERVICE[@CONNECTION][:METHODS[:PATH]], for example slack or github:GET or '*'; several times."


@group.command("create")
def create(
    name: Annotated[str, typer.Argument(help="A name to know it by.")],
    *,
    allow: Annotated[list[str], typer.Option("--allow", metavar="PERMIT", help=_permits_help())],
    root: Annotated[
        str | None,
        typer.Option(
            "--root", metavar="SERVICE", help="Addresses without a service's id go to this service."
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", metavar="proxy|service", help="proxy: for callers; service: for the control plane."
        ),
    ] = "proxy",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only calls that are reviewed as reading, in all permits.")
    ] = False,
    observe: Annotated[
        bool,
        typer.Option("--observe", help="Let all calls pass, and note those that the permits would refuse."),
    ] = False,
    network: Annotated[
        list[str] | None, typer.Option("--network", metavar="CIDR", help="Only from there; several times.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="30d|12h|TIME", help="When it ends by itself.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it once. A running server has taken it when this ends."""
    settings = settings_of(config, data_dir)
    asked = KeyRequest(name, allow, _kind(kind), root, network or (), expires, read_only, observe)

    async def work(vault: Vault, catalog: Catalog) -> tuple[KeyRecord, Secret]:
        return await create_key(vault, catalog, asked, now=time.time(), actor=ACTOR)

    record, key = with_vault(settings, work)
    if as_json:
        output.document(
            {
                "id": record.key_id,
                "key": key.reveal(),
                "permits": list(record.permits),
                "expires_at": rfc3339(record.expires_at),
            }
        )
    else:
        output.line(key.reveal())
        output.note(f"Key {record.key_id} ({record.name}). It is shown only now: only its hash is kept.")
    output.changed(settings.storage.data_dir)


def _kind(text: str) -> Kind:
    if text == "proxy":
        return "proxy"
    if text == "service":
        return "service"
    raise typer.BadParameter("is proxy or service", param_hint="--kind")


@group.command("generate")
def generate(*, as_json: JsonOption = False) -> None:
    """Print a new key and its hash; nothing is stored. Declare the hash in the settings of a sidecar."""
    key_id, key = keys.generate()
    digest = f"sha256:{hashlib.sha256(key.reveal().encode()).hexdigest()}"
    if as_json:
        output.document({"id": key_id, "key": key.reveal(), "hash": digest})
        return
    output.line(key.reveal())
    output.line(digest)
    output.note("The first line goes to the caller, the second into [keys.NAME] hash of the settings.")


@group.command("list")
def listing(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List all keys, revoked and declared ones too."""
    settings = settings_of(config, data_dir)
    stored, used = vault_if_any(settings, _keys_and_uses) or ({}, {})
    records = [*stored.values(), *assembly.declared_keys(settings).values()]
    now = time.time()
    if as_json:
        output.document([key_document(record, used.get(record.key_id), now) for record in records])
        return
    output.table(
        ("id", "name", "state", "permits", "root", "expires", "last used"),
        [
            (
                record.key_id,
                record.name,
                key_state(record, now),
                " ".join(record.permits),
                record.root,
                rfc3339(record.expires_at),
                rfc3339(used.get(record.key_id)),
            )
            for record in records
        ],
        empty="no keys yet: make one with 'connector-proxy keys create NAME --allow PERMIT'",
    )


async def _keys_and_uses(vault: Vault, _: Catalog) -> tuple[Mapping[str, KeyRecord], Mapping[str, float]]:
    return vault.keys(), await vault.key_usage()


@group.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id or name (never the key itself).")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a key out of force for good. A running server refuses it when this ends."""
    if key.startswith(keys.PREFIX):
        raise ConfigurationError(
            Fault("KEY", "is a key's id or name; the key itself does not belong on a command line")
        )
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, _: Catalog) -> tuple[KeyRecord, bool]:
        record = find_key([*vault.keys().values(), *assembly.declared_keys(settings).values()], key)
        return record, await vault.revoke_key(record.key_id, actor=ACTOR)

    record, was_live = with_vault(settings, work)
    if as_json:
        output.document({"id": record.key_id, "name": record.name, "revoked": was_live})
    else:
        state = "is revoked" if was_live else "was revoked before"
        output.line(f"Key {record.key_id} ({record.name}) {state}.")
    output.changed(settings.storage.data_dir)


@group.command("revoke-all")
def revoke_all(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Put every key of the vault out of force; declared keys live in the settings and stay."""
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, _: Catalog) -> int:
        return await vault.revoke_all(actor=ACTOR)

    count = with_vault(settings, work)
    if as_json:
        output.document({"revoked": count, "declared": sorted(settings.keys)})
    else:
        output.line(f"{count} key{'' if count == 1 else 's'} revoked.")
    if settings.keys:
        output.note(f"Still in force, because the settings declare them: {', '.join(sorted(settings.keys))}")
    output.changed(settings.storage.data_dir)
