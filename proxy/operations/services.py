"""Services: found, shown, new ones of one's own."""

from collections.abc import Collection, Mapping
from pathlib import Path

from proxy.catalog.loader import TYPE_ID, packaged_directory
from proxy.catalog.model import Catalog, Service
from proxy.catalog.reader import nearest
from proxy.catalog.template import new_service_text
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault, MissingError
from proxy.operations import fields, paging
from proxy.operations.operation import Asked, Document, Ground, Operation
from proxy.settings import Settings


def find_service(catalog: Catalog, type_id: str) -> Service:
    """The service of that id.

    Raises:
        MissingError: there is none; the nearest one is named.
    """
    service = catalog.get(type_id)
    if service is None:
        raise MissingError(
            Fault(type_id[:60], f"there is no such service{nearest(type_id, catalog.services)}")
        )
    return service


def new_service(name: str, directory: Path) -> Path:
    """Write a commented service file.

    Raises:
        ConfigurationError: no id, one that is taken, or the file is there.
    """
    if TYPE_ID.fullmatch(name) is None:
        raise ConfigurationError(
            Fault("name", "a service's id has 1 to 40 lower-case letters, digits and '_'")
        )
    if (packaged_directory() / "services" / f"{name}.toml").is_file():
        raise ConfigurationError(
            Fault(name, "is a shipped service; copy its file and say override = true to replace it")
        )
    path = directory / f"{name}.toml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(new_service_text(name))
    except FileExistsError:
        raise ConfigurationError(Fault(str(path), "is there already")) from None
    except OSError as error:
        raise ConfigurationError(Fault(str(path), f"cannot be written: {error.strerror}")) from error
    return path


def connected_services(settings: Settings, vault: Vault | None) -> frozenset[str]:
    """Ids of services that have a connection, or a source of tokens of their own."""
    stored = frozenset() if vault is None else frozenset(one.service for one in vault.connections())
    return stored | {type_id for type_id, source in settings.sources.items() if source.kind != "vault"}


def service_document(service: Service, connected: Collection[str]) -> Mapping[str, object]:
    """A service as it is listed; ``connected``: ids of those with a connection."""
    return {
        "id": service.type_id,
        "title": service.title,
        "hosts": [host.origin.text for host in service.hosts if host.enabled],
        "params": [
            {
                "name": param.name,
                "required": param.required,
                "example": param.example,
                "description": param.description,
            }
            for param in service.params.values()
            if not param.informational
        ],
        "verified": service.verified,
        "yours": service.user,
        "can_verify": service.verify is not None,
        "connected": service.type_id in connected,
    }


# --- operations ---------------------------------------------------------------------------------------


def _connected(ground: Ground) -> frozenset[str]:
    return connected_services(ground.settings, None if ground.held is None else ground.vault)


async def _list(ground: Ground, asked: Asked) -> Document:
    connected, order = _connected(ground), {name: at for at, name in enumerate(ground.catalog.services)}
    return paging.page(
        asked,
        ground.catalog.services.values(),
        lambda one: (f"{order[one.type_id]:05d}",),
        lambda one: service_document(one, connected),
    )


async def _show(ground: Ground, asked: Asked) -> Document:
    return service_document(find_service(ground.catalog, asked.path["service"]), _connected(ground))


_PARAM = {
    "name": fields.STRING,
    "required": fields.BOOLEAN,
    "example": fields.MAYBE_STRING,
    "description": fields.MAYBE_STRING,
}
_SERVICE = fields.told(
    {
        "id": fields.STRING,
        "title": fields.STRING,
        "hosts": fields.STRINGS,
        "params": {"type": "array", "items": fields.told(_PARAM)},
        "verified": fields.STRING,
        "yours": fields.BOOLEAN,
        "can_verify": fields.BOOLEAN,
        "connected": fields.BOOLEAN,
    }
)
OPERATIONS = (
    Operation(
        "services.list",
        "GET",
        "/services",
        "Services that can be called, and which of them have an account",
        ("read",),
        fields.page_of(_SERVICE),
        _list,
        query=fields.ONE_BY_ONE,
    ),
    Operation("services.show", "GET", "/services/{service}", "One service", ("read",), _SERVICE, _show),
)
