"""``password``: a new one for the operator, who signs in to the control plane with it."""

from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.ground import public_url_of
from proxy.cli.session import ACTOR, ConfigOption, DataDirOption, JsonOption, settings_of, with_vault
from proxy.connectors.passwords import hashed, new_password
from proxy.connectors.vault import Vault


def password(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Make a new password for the control plane, shown once; browsers that are signed in are signed out."""
    settings = settings_of(config, data_dir)
    made = new_password()

    async def work(vault: Vault, _: Catalog) -> None:
        await vault.set_password(hashed(made), actor=ACTOR)

    with_vault(settings, work)
    place = f"{public_url_of(settings)}/sign-in"
    if as_json:
        output.document({"password": made.reveal(), "sign_in": place})
    else:
        output.line(made.reveal())
        output.note(f"Sign in with it at {place}. It is not shown again.")
    output.changed(settings.storage.data_dir)
