"""``vault sign``: rows that are not as this release wrote them, shown and, when asked to, put in force."""

from collections.abc import Sequence
from typing import Annotated

import typer

from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.session import ACTOR, ConfigOption, DataDirOption, JsonOption, settings_of, vault_if_any
from proxy.connectors.rowseals import Refused
from proxy.connectors.vault import Vault
from proxy.errors import StateError

_WHY = {
    "unsigned": "without a seal: written by an older release, or by somebody without the master key",
    "changed": "with another's seal: changed outside of connector-proxy",
}


def sign(
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Put all of them in force as they are: you vouch for them.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show keys, tokens, users and sessions that are not in force because this release did not write them."""
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, _: Catalog) -> tuple[Refused, ...]:
        return await (vault.sign_rows(actor=ACTOR) if every else vault.refused_rows())

    found = vault_if_any(settings, work)
    if found is None:
        raise StateError(f"there is no vault in {settings.storage.data_dir} yet")
    if as_json:
        rows = [{"table": one.table, "row": one.row, "why": one.why} for one in found]
        output.document({"rows": rows, "signed": every})
        return
    _show(found, signed=every)
    if every:
        output.changed(settings.storage.data_dir)


def _show(found: Sequence[Refused], *, signed: bool) -> None:
    if not found:
        output.line("Every key, token, user and session is as this release wrote it.")
        return
    for one in found:
        output.line(f"{one.table} {one.row}: {_WHY[one.why]}")
    if signed:
        output.line("They are in force now, as they are.")
    else:
        output.note(
            "They are not in force. Revoke or remove what you do not know; 'vault sign --all' signs the rest."
        )
