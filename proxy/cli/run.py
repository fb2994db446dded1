"""``run``: a program whose SDKs find the proxy by their environment, with a key of its own while it runs."""

import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from proxy import instance, launch
from proxy.assembly.inforce import catalog_of
from proxy.catalog.model import Catalog
from proxy.catalog.recipes import load_recipes
from proxy.cli import output
from proxy.cli.session import ACTOR, ConfigOption, DataDirOption, fail, settings_of, with_vault
from proxy.connectors.vault import Vault
from proxy.errors import ConnectorProxyError, StateError
from proxy.forwarding.permits import parse_permit
from proxy.keys import KeyRecord
from proxy.operations import places
from proxy.operations.keys import KeyRequest, create_key
from proxy.operations.moments import rfc3339
from proxy.secret import Secret
from proxy.settings import Settings, environment


def run(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="The program and its arguments.")
    ],
    *,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="PERMIT", help="As of 'keys create'; several times."),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="SERVICE", help="Everything of a service; several times."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="12h|TIME", help="When its key ends at the latest.")
    ] = "1d",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Run a program with the running server's address and a key of its own in its environment.

    PROXY_URL, PROXY_KEY, the base URLs that SDKs read from the environment, NO_PROXY and the certificate to
    trust are set; for other SDKs, 'snippet SERVICE' shows what to write. The key is revoked when the program
    has ended. Without --allow and --service it may call every connected service. The exit status is the
    program's.
    """
    settings = settings_of(config, data_dir)
    with launch.signals_held() as mask:
        if places.running(settings) is None:
            raise StateError(
                f"no server runs on the data folder {settings.storage.data_dir}: "
                "start 'connector-proxy serve', or name its folder with --data-dir"
            )
        if instance.taken(settings.storage.data_dir) is None:
            raise StateError(
                "the running server has no vault and knows declared keys only: "
                "give the program one of them as PROXY_KEY yourself"
            )
        record, key = _make_key(settings, [*(allow or ()), *(service or ())], expires)
        output.note(
            f"key {record.key_id} for {' '.join(record.permits)}; data folder: {settings.storage.data_dir}"
        )
        try:
            status = _run(settings, record, key, command, mask)
        except launch.NotStartedError as error:
            fail(str(error))
            status = error.status
        finally:
            _revoke(settings, record)
    raise typer.Exit(status)


def _make_key(settings: Settings, permits: list[str], expires: str) -> tuple[KeyRecord, Secret]:
    name = f"run-{os.getpid()}-{secrets.token_hex(4)}"

    async def work(vault: Vault, catalog: Catalog) -> tuple[KeyRecord, Secret]:
        connected = {one.service for one in vault.connections()}
        connected |= {type_id for type_id, source in settings.sources.items() if source.kind != "vault"}
        if not permits and not connected:
            raise StateError("nothing is connected yet: 'connector-proxy connect SERVICE'")
        asked = KeyRequest(name, permits or sorted(connected), expires=expires)
        return await create_key(vault, catalog, asked, now=time.time(), actor=ACTOR)

    return with_vault(settings, work)


def _revoke(settings: Settings, record: KeyRecord) -> None:
    async def work(vault: Vault, _: Catalog) -> bool:
        return await vault.revoke_key(record.key_id, actor=ACTOR)

    try:
        with_vault(settings, work)
    except ConnectorProxyError as error:  # the program's exit status says more than ours
        fail(f"key {record.key_id} is not revoked and ends {rfc3339(record.expires_at)}: {error}")


def _run(settings: Settings, record: KeyRecord, key: Secret, command: list[str], mask: frozenset[int]) -> int:
    told = places.running(settings)
    where = places.places_of(settings, told)
    has_tls = bool((told or {}).get("tls"))
    catalog = catalog_of(settings)
    variables = launch.child_environment(
        environment(),
        places=where,
        services=_addressed(record.permits, catalog),
        recipes=load_recipes(),
        key=key.reveal(),
        has_tls=has_tls,
    )
    with tempfile.TemporaryDirectory(prefix="connector-proxy-run-") as folder:
        if has_tls and settings.data.tls.cert_file is None:
            variables = launch.trusting(variables, Path(where.ca_file), Path(folder))
        early = launch.interrupted()
        return launch.run_child(command, variables, mask) if early is None else early


def _addressed(permits: tuple[str, ...], catalog: Catalog) -> list[str]:
    """What the key may call, as addresses name it."""
    found: dict[str, str] = {}
    for permit in map(parse_permit, permits):
        for type_id in catalog.services if permit.service == "*" else (permit.service,):
            if permit.connection is None:
                found[type_id] = type_id
            else:
                found.setdefault(type_id, f"{type_id}@{permit.connection}")
    return list(found.values())
