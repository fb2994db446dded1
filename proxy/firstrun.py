"""The first start of a vault: one key that may do anything, shown once to whoever started us."""

import shlex
import sys
import time
from pathlib import Path

from proxy import keys, log
from proxy.core import Core
from proxy.instance import FIRST_RUN_NAME, write_private
from proxy.keys import KeyRecord
from proxy.listeners import Sockets

NAME = "first"


async def make_first_key(core: Core, folder: Path | None, *, base: str, folder_given: bool) -> None:
    """Make a key where there is none at all, neither stored (revoked ones count) nor declared.

    On a terminal it is shown there; otherwise it goes into ``first-run`` in the data folder (mode 0600), and
    only the path is logged. The commands in it name the folder where ``folder_given`` says that they have to;
    ``base`` is where callers reach the data plane.

    Raises:
        StateError: the file cannot be written; no key was made then.
    """
    vault = core.vault
    if vault is None or folder is None or core.keys or await vault.audit(limit=1):
        return
    key_id, key = keys.generate()
    where = f" --data-dir {shlex.quote(str(folder))}" if folder_given else ""
    text = (
        "A first proxy key, which may call every service:\n\n"
        f"    {key.reveal()}\n\n"
        "Connect an account and call it:\n\n"
        f"    connector-proxy connect github --access-token-stdin{where} < token-file\n"
        f'    curl -H "Authorization: Bearer {key.reveal()}" {base}/github/user\n\n'
        "Make a narrower key, and revoke this one:\n\n"
        f"    connector-proxy keys create laptop --allow github:GET{where}\n"
        f"    connector-proxy keys revoke {NAME}{where}\n"
    )
    record = KeyRecord(key_id, NAME, keys.digest(key.reveal().encode()), ("*",), created_at=time.time())
    if sys.stdout.isatty():
        await vault.add_key(record, actor="first start")
        sys.stdout.write("\n" + text + "\n")
        sys.stdout.flush()
    else:
        path = folder / FIRST_RUN_NAME
        write_private(path, text)
        await vault.add_key(record, actor="first start")
        log.event("first_key_written", path=str(path), key_id=key_id)


def base_url(sockets: Sockets) -> str:
    """Where callers on this machine reach the data plane; for texts that are read by people."""
    addresses = sockets.addresses()["data"]
    found = next((one for one in addresses if not one.startswith("unix:")), "127.0.0.1:8080")
    return f"http://{found.replace('0.0.0.0', '127.0.0.1')}"
