"""``registrations``: the apps at providers with which accounts are connected."""

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from proxy import assembly
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.authorize import public_url_of
from proxy.cli.session import ACTOR, ConfigOption, DataDirOption, JsonOption, settings_of, with_vault
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.operations.registrations import (
    family_of,
    registration_document,
    remove_registration,
    services_of,
)
from proxy.secret import Secret
from proxy.settings import Settings

group = typer.Typer(help="Apps registered at providers.", no_args_is_help=True)
_MAX_SECRET = 8192


@group.command("set")
def save(
    registration_id: Annotated[
        str, typer.Argument(metavar="ID", help="A family (google, slack, ...), a service's id, or any name.")
    ],
    *,
    client_id: Annotated[str, typer.Option("--client-id", metavar="ID", help="As the provider gave it.")],
    client_secret_stdin: Annotated[
        bool, typer.Option("--client-secret-stdin", help="Read the client secret from standard input.")
    ] = False,
    family: Annotated[
        str | None,
        typer.Option("--family", metavar="NAME", help="Whose app it is, where ID does not say it."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the client id and secret of an app, sealed; another one of that ID is replaced."""
    settings = settings_of(config, data_dir)
    catalog = assembly.catalog_of(settings)
    chosen = family_of(catalog, registration_id, family)
    secret = _read_secret() if client_secret_stdin else None
    registration = Registration(registration_id, chosen, client_id, secret)

    async def work(vault: Vault, catalog: Catalog) -> Registration:
        await _registrations(settings, catalog, vault).save(registration, actor=ACTOR)
        return registration

    with_vault(settings, work)
    told = registration_document(catalog, registration, public_url=public_url_of(settings), declared=False)
    if as_json:
        output.document(told)
    else:
        output.line(
            f"{registration_id}: the app is kept, for {', '.join(services_of(catalog, registration))}."
        )
        output.line(f"Its redirect address at the provider: {told['redirect_address']}")
    output.changed(settings.storage.data_dir)


@group.command("list")
def listing(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List the apps with the redirect address that each needs at its provider. Secrets are never shown."""
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, catalog: Catalog) -> list[Mapping[str, object]]:
        known, public_url = _registrations(settings, catalog, vault), public_url_of(settings)
        return [
            registration_document(
                catalog, one, public_url=public_url, declared=one.registration_id in known.declared
            )
            for one in await known.all()
        ]

    told = with_vault(settings, work)
    if as_json:
        output.document(told)
        return
    output.table(
        ("id", "family", "client id", "secret", "from", "redirect address", "services"),
        [
            (
                one["id"],
                one["family"],
                one["client_id"],
                "kept" if one["has_secret"] else "none",
                "settings" if one["declared"] else "vault",
                one["redirect_address"],
                " ".join(one["services"]) if isinstance(one["services"], list) else "",
            )
            for one in told
        ],
        empty="no app is registered: 'connector-proxy connect SERVICE' says what a provider needs",
    )


@group.command("remove")
def remove(
    registration_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget an app. Connections made with it serve until their tokens end; they are not renewed any more."""
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, catalog: Catalog) -> None:
        await remove_registration(_registrations(settings, catalog, vault), registration_id, actor=ACTOR)

    with_vault(settings, work)
    if as_json:
        output.document({"id": registration_id, "done": "remove"})
    else:
        output.line(f"{registration_id}: is forgotten.")
    output.changed(settings.storage.data_dir)


def _registrations(settings: Settings, catalog: Catalog, vault: Vault) -> Registrations:
    return Registrations(assembly.declared_registrations(settings, catalog), vault)


def _read_secret() -> Secret:
    if sys.stdin.isatty():
        raise typer.BadParameter(
            "standard input is a terminal, which would show the secret: pipe it in",
            param_hint="--client-secret-stdin",
        )
    body = sys.stdin.buffer.read(_MAX_SECRET + 1)
    try:
        text = body.decode().strip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text or len(body) > _MAX_SECRET:
        raise ConfigurationError(Fault("standard input", "holds no client secret"))
    return Secret(text)
