"""``ca``: the certificate to trust where the TLS listener has none of its own."""

import datetime as dt
from typing import Annotated

import typer
from cryptography.hazmat.primitives import hashes

from proxy import localca
from proxy.cli import output
from proxy.cli.session import ConfigOption, DataDirOption, JsonOption, settings_of
from proxy.connectors.folder import prepare_folder
from proxy.operations.moments import rfc3339


def ca(
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificate itself.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print where the local authority's certificate is (made at first use); its key is never shown.

    `serve --tls-port` presents what it signed. It can vouch for localhost and loopback addresses only.
    """
    settings = settings_of(config, data_dir)
    folder = settings.storage.data_dir
    is_new = not localca.certificate_path(folder).exists()
    for notice in prepare_folder(folder):
        output.note(notice)
    authority = localca.ensure_authority(folder, dt.datetime.now(dt.UTC))
    path = localca.certificate_path(folder)
    if as_json:
        output.document(
            {
                "file": str(path),
                "sha256": authority.certificate.fingerprint(hashes.SHA256()).hex(),
                "expires_at": rfc3339(authority.certificate.not_valid_after_utc.timestamp()),
                "pem": authority.pem.decode(),
            }
        )
    elif pem:
        output.line(authority.pem.decode().rstrip())
    else:
        output.line(str(path))
    if is_new:
        output.changed(folder)
    if settings.data.tls.cert_file is not None:
        output.note(f"The TLS listener does not use it: data.tls.cert_file is {settings.data.tls.cert_file}.")
