"""The first start of a vault: a key that may do anything and the operator's password, shown once."""

import asyncio
import shlex
import sys
import time
from pathlib import Path

from proxy import keys, log
from proxy.connectors.passwords import hashed, new_password
from proxy.connectors.vault import Vault
from proxy.core import Core
from proxy.errors import ConfigurationError
from proxy.instance import FIRST_RUN_NAME, write_private
from proxy.keys import KeyRecord
from proxy.listeners import Sockets
from proxy.secret import Secret

NAME = "first"


async def make_first_key(
    core: Core, folder: Path | None, *, base: str, control: str, folder_given: bool
) -> None:
    """Make a key where there is none at all (revoked and declared ones count), and the operator's password.

    On a terminal they are shown there; otherwise they go into ``first-run`` in the data folder (mode 0600),
    and only the path is logged. The commands in it name the folder where ``folder_given`` says that they have
    to; ``base`` is where callers reach the data plane, ``control`` where browsers reach the control plane.

    Raises:
        StateError: the file cannot be written; nothing was made then.
    """
    vault = core.vault
    if vault is None or folder is None:
        return
    where = f" --data-dir {shlex.quote(str(folder))}" if folder_given else ""
    needs_password = core.settings.control.password_sign_in and await vault.password() is None
    password = new_password() if needs_password else None
    stored = None if password is None else await asyncio.to_thread(hashed, password)
    key_id, key = keys.generate()
    needs_key = not core.keys and not await vault.audit(limit=1)
    parts = [_about_key(key, base, where)] if needs_key else []
    if password is not None:
        parts.append(_about_password(password, control, where))
    if not parts:
        return
    on_terminal = sys.stdout.isatty()
    if not on_terminal:
        write_private(folder / FIRST_RUN_NAME, "\n".join(parts))
    told = len(parts)
    if stored is not None and not await vault.add_password(stored, actor="first start"):
        parts.pop()  # another instance on this database was first, and has told
    if needs_key and not await _add_key(vault, key_id, key):
        parts.pop(0)  # likewise
    if not parts:
        if not on_terminal:
            (folder / FIRST_RUN_NAME).unlink(missing_ok=True)
        return
    if not on_terminal and len(parts) < told:
        write_private(folder / FIRST_RUN_NAME, "\n".join(parts))
    if on_terminal:
        sys.stdout.write("\n" + "\n".join(parts) + "\n")
        sys.stdout.flush()
    else:
        path = str(folder / FIRST_RUN_NAME)
        log.event("first_run_written", path=path, key_id=key_id if needs_key else None)


async def _add_key(vault: Vault, key_id: str, key: Secret) -> bool:
    """False when another instance on the same database has made one of that name meanwhile."""
    record = KeyRecord(key_id, NAME, keys.digest(key.reveal().encode()), ("*",), created_at=time.time())
    try:
        await vault.add_key(record, actor="first start")
    except ConfigurationError:
        return False
    return True


def _about_key(key: Secret, base: str, where: str) -> str:
    return (
        "A first proxy key, which may call every service:\n\n"
        f"    {key.reveal()}\n\n"
        "Connect an account and call it:\n\n"
        f"    connector-proxy connect github --access-token-stdin{where} < token-file\n"
        f'    curl -H "Authorization: Bearer {key.reveal()}" {base}/github/user\n\n'
        "Make a narrower key, and revoke this one:\n\n"
        f"    connector-proxy keys create laptop --allow github:GET{where}\n"
        f"    connector-proxy keys revoke {NAME}{where}\n"
    )


def _about_password(password: Secret, control: str, where: str) -> str:
    return (
        "The operator's password for the dashboard, where accounts are connected and keys made:\n\n"
        f"    {password.reveal()}\n\n"
        f"    {control}\n\n"
        "Another one, should it get lost:\n\n"
        f"    connector-proxy password{where}\n"
    )


def base_url(sockets: Sockets) -> str:
    """Where callers on this machine reach the data plane; for texts that are read by people."""
    addresses = sockets.addresses()["data"]
    found = next((one for one in addresses if not one.startswith("unix:")), "127.0.0.1:8080")
    return f"http://{found.replace('0.0.0.0', '127.0.0.1')}"
