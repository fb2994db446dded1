"""Registrations: the apps at providers with which accounts are connected."""

from collections.abc import Mapping

from proxy.catalog.model import Catalog
from proxy.catalog.reader import nearest
from proxy.connectors.flow import redirect_address
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.errors import ConfigurationError, ConflictError, Fault, MissingError
from proxy.operations import fields, paging
from proxy.operations.operation import Asked, Document, Ground, Operation
from proxy.secret import Secret


def family_of(catalog: Catalog, registration_id: str, given: str | None) -> str:
    """Whose app a registration is: as said, else what its id is the name of.

    Raises:
        ConfigurationError: it is not clear, or no service is of it.
    """
    families = {one.oauth.family for one in catalog.services.values() if one.oauth is not None}
    service = catalog.get(registration_id)
    of_service = service.oauth.family if service is not None and service.oauth is not None else None
    family = given or (registration_id if registration_id in families else of_service)
    if family is None:
        hint = nearest(registration_id, [*families, *catalog.services])
        raise ConfigurationError(
            Fault("family", f"is needed: {registration_id[:64]} is neither a family nor a service{hint}")
        )
    if family not in families:
        raise ConfigurationError(Fault("family", f"no service is of it{nearest(family, families)}"))
    return family


def services_of(catalog: Catalog, registration: Registration) -> list[str]:
    """The services that take this app when none is named: its own, or its family's."""
    service = catalog.get(registration.registration_id)
    if service is not None and registration.registration_id != registration.family:
        return [service.type_id]
    return [
        one.type_id
        for one in catalog.services.values()
        if one.oauth is not None and one.oauth.family == registration.family
    ]


async def remove_registration(known: Registrations, registration_id: str, *, actor: str) -> None:
    """Forget an app of the vault.

    Raises:
        MissingError: there is none.
        ConflictError: it is declared in the settings.
    """
    if registration_id in known.declared:
        raise ConflictError(
            Fault(registration_id, "is declared in the settings: take it out there and reload (SIGHUP)")
        )
    if not await known.remove(registration_id, actor=actor):
        hint = nearest(registration_id, [one.registration_id for one in await known.all()])
        raise MissingError(Fault(registration_id[:64], f"there is no such registration{hint}"))


def registration_document(
    catalog: Catalog, one: Registration, *, public_url: str, declared: bool
) -> Mapping[str, object]:
    """An app as it is listed; of its secret only whether there is one, and whether it opens.

    ``public_url``: origin of the control plane as browsers reach it. ``declared``: it is of the settings, not
    of the vault.
    """
    return {
        "id": one.registration_id,
        "family": one.family,
        "client_id": one.client_id,
        "has_secret": one.client_secret is not None or one.damaged,
        "damaged": one.damaged,
        "declared": declared,
        "redirect_address": redirect_address(public_url, one.registration_id),
        "services": services_of(catalog, one),
    }


# --- operations ---------------------------------------------------------------------------------------


def _document(ground: Ground, one: Registration) -> Mapping[str, object]:
    parts = ground.parts
    return registration_document(
        ground.catalog,
        one,
        public_url=parts.connecting.flows.public_url,
        declared=one.registration_id in parts.registrations.declared,
    )


async def _list(ground: Ground, asked: Asked) -> Document:
    found = await ground.parts.registrations.all()
    return paging.page(asked, found, lambda one: (one.registration_id,), lambda one: _document(ground, one))


async def _save(ground: Ground, asked: Asked) -> Document:
    body, name = asked.body, asked.path["registration"]
    secret = body.get("client_secret")
    family = family_of(ground.catalog, name, body.get("family"))
    made = Registration(name, family, body["client_id"], None if secret is None else Secret(secret))
    await ground.parts.registrations.save(made, actor=asked.actor)
    return _document(ground, made)


async def _remove(ground: Ground, asked: Asked) -> Document:
    name = asked.path["registration"]
    await remove_registration(ground.parts.registrations, name, actor=asked.actor)
    return {"id": name, "done": "remove"}


_REGISTRATION = fields.told(
    {
        "id": fields.STRING,
        "family": fields.STRING,
        "client_id": fields.STRING,
        "has_secret": fields.BOOLEAN,
        "damaged": fields.BOOLEAN,
        "declared": fields.BOOLEAN,
        "redirect_address": fields.STRING,
        "services": fields.STRINGS,
    }
)
_APP = fields.given(
    {
        "client_id": fields.PRINTABLE,
        "client_secret": {**fields.PRINTABLE, "writeOnly": True},
        "family": fields.text("A family such as google", most=63, pattern=r"^[a-z][a-z0-9_]{0,62}$"),
    },
    "client_id",
)
OPERATIONS = (
    Operation(
        "registrations.list",
        "GET",
        "/registrations",
        "Apps at providers; of their secrets only whether there is one",
        ("read",),
        fields.page_of(_REGISTRATION),
        _list,
        query=fields.ONE_BY_ONE,
    ),
    Operation(
        "registrations.set",
        "PUT",
        "/registrations/{registration}",
        "Keep an app's id and secret, in place of the one there was",
        ("registrations:write",),
        _REGISTRATION,
        _save,
        body=_APP,
    ),
    Operation(
        "registrations.remove",
        "DELETE",
        "/registrations/{registration}",
        "Forget an app; connections made with it are not renewed any more",
        ("registrations:write",),
        fields.told({"id": fields.STRING, "done": fields.STRING}),
        _remove,
    ),
)
