"""The control plane of ``support.connecting`` with an identity provider, and a user who has an account there."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from proxy.connectors import passwords
from proxy.operations.users import add_user
from proxy.secret import Secret
from support.connecting import Scene, scene
from support.providers.identity import CLIENT_ID, CLIENT_SECRET, Identity, identity_provider

PASSWORD = "correct horse battery"
Place = tuple[Scene, Identity]


@contextlib.asynccontextmanager
async def made(
    folder: Path, *, password: bool = True, secret: bool = True, **oidc: Any
) -> AsyncIterator[Place]:
    """A control plane with a provider."""
    (folder / "oidc-secret").write_text(CLIENT_SECRET)
    async with identity_provider() as provider:
        given = {"issuer": provider.issuer, "client_id": CLIENT_ID, "label": "Example ID", **oidc}
        if secret:
            given["client_secret"] = {"file": str(folder / "oidc-secret")}
        environ = {
            f"CONNECTOR_PROXY_CONTROL__OIDC__{name.upper()}": _text(value) for name, value in given.items()
        }
        environ["CONNECTOR_PROXY_CONTROL__PASSWORD_SIGN_IN"] = json.dumps(password)
        async with scene(folder, password=passwords.hashed(Secret(PASSWORD)), environ=environ) as one:
            await add_ada(one)
            yield one, provider


async def add_ada(one: Scene, role: str = "operator") -> None:
    await add_user(one.vault, "ada", role, email="Ada@Example.com", with_password=False, actor="test")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
