"""The connectors calls of Base44 on the control plane, put together from what the server has."""

import time
from collections.abc import Mapping

from proxy import assembly
from proxy.connecting import Connecting
from proxy.connectors.model import Connection
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.vault import Vault
from proxy.control.base44.asking import ServiceKeys
from proxy.control.base44.routes import Base44Calls
from proxy.control.base44.served import Served
from proxy.core import Core
from proxy.disconnecting import Disconnecting
from proxy.keys import KeyRecord


def base44_calls(
    core: Core, vault: Vault, registrations: Registrations, connecting: Connecting, *, public_url: str
) -> Base44Calls:
    """The calls, for the app that the settings name when they are asked.

    Args:
        core: has services, sources and keys as they are in force.
        vault: of ``core``.
        registrations: of ``core``.
        connecting: takes consent to its end.
        public_url: origin of the control plane as browsers reach it.
    """
    endpoint = assembly.token_endpoint(core.dialer)

    async def disconnect(connection: Connection, actor: str) -> object:
        ending = Disconnecting(vault, core.catalog, registrations, endpoint)
        return await ending.disconnect(connection, actor=actor)

    def is_elsewhere(type_id: str) -> bool:
        source = core.settings.sources.get(type_id)
        return source is not None and source.kind != "vault"

    def keys() -> Mapping[str, KeyRecord]:
        return {} if core.follower is None else core.follower.keys  # settings declare none of this kind

    served = Served(
        lambda: core.settings.base44.serve_app_id,
        lambda: core.catalog,
        lambda: core.connectors,
        vault,
        connecting,
        disconnect,
        is_elsewhere,
    )
    return Base44Calls(
        served, ServiceKeys(keys), lambda key_id: core.note_use(key_id, time.time()), public_url
    )
