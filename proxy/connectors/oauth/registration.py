"""Apps registered at providers: those of the settings, which win, and those kept in the vault."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.catalog.model import Service
from proxy.errors import ConfigurationError, ConflictError, Fault
from proxy.secret import Secret

_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.ASCII)
_FAMILY = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_VSCHAR = re.compile(r"[ -~]{1,4096}", re.ASCII)  # RFC 6749 appendix A.1, A.2


@dataclass(frozen=True, slots=True)
class Registration:
    """An app registered at a provider. Without a secret it is a public client (RFC 6749 §2.1).

    Args:
        registration_id: any name; it stands in the callback's path. A service takes the one named like its
            type id, else the one named like its family.
        family: whose app it is: google, microsoft, slack, ...
        damaged: it has a secret that does not open. Such a one is as it was found, to be shown and mended
            only: what asks a provider never gets it.

    Raises:
        ConfigurationError: a value cannot be what it should; the secret is never in the text.
    """

    registration_id: str
    family: str
    client_id: str
    client_secret: Secret | None = None
    damaged: bool = False

    def __post_init__(self) -> None:
        if self.damaged:
            return
        faults = []
        place = f"registrations.{self.registration_id[:64]}"
        if _ID.fullmatch(self.registration_id) is None:
            faults.append(
                Fault("registrations", "an id has up to 63 lower-case letters, digits, '_', '.', '-'")
            )
            place = "registration"
        if _FAMILY.fullmatch(self.family) is None:
            faults.append(Fault(f"{place}.family", "is a word of lower-case letters, digits and '_'"))
        if _VSCHAR.fullmatch(self.client_id) is None:
            faults.append(Fault(f"{place}.client_id", "must be printable ASCII and not empty"))
        if self.client_secret is not None and _VSCHAR.fullmatch(self.client_secret.reveal()) is None:
            faults.append(Fault(f"{place}.client_secret", "must be printable ASCII and not empty"))
        if faults:
            raise ConfigurationError(*faults)

    @property
    def mending(self) -> str:
        """What to do about a damaged one."""
        return (
            f"registrations.{self.registration_id}: its client secret does not open (damaged, or the row was "
            "changed); set it again: "
            f"connector-proxy registrations set {self.registration_id} --client-id ID "
            f"--client-secret-stdin --family {self.family} < secret-file"
        )


class RegistrationStore(Protocol):
    """What keeps registrations: the vault."""

    async def registration(self, registration_id: str) -> Registration | None:
        """The one of that id, opened, or None; one that does not open is a SealBrokenError."""
        ...

    async def registrations(self) -> tuple[Registration, ...]:
        """All of them, by id, damaged ones too."""
        ...

    async def save_registration(self, registration: Registration, *, actor: str) -> None:
        """Keep it sealed, new or in place of the one with that id; audited."""
        ...

    async def remove_registration(self, registration_id: str, *, actor: str) -> bool:
        """Forget it; False when there was none."""
        ...


class Registrations:
    """Looked up when an account is connected or refreshed, never for a forwarded request.

    ``declared`` are those of the settings; one of them hides the vault's of the same id.
    """

    def __init__(self, declared: Mapping[str, Registration], vault: RegistrationStore) -> None:
        self.declared = declared
        self._vault = vault

    async def find(self, service: Service, registration_id: str | None = None) -> Registration | None:
        """The app that a service uses: the one of that id, else named like the service, else its family.

        None when there is none, and for one of another family: its secret is for another provider.

        Raises:
            StoreError, SealBrokenError: the vault cannot be read.
        """
        if service.oauth is None:
            return None
        family = service.oauth.family
        names = (service.type_id, family) if registration_id is None else (registration_id,)
        for name in names:
            found = self.declared.get(name) or await self._vault.registration(name)
            if found is not None and found.family == family:
                return found
        return None

    async def shown(self, service: Service) -> Registration | None:
        """The app that a service uses, as :meth:`find` has it, but a damaged one too: to show or replace it.

        Raises:
            StoreError: the vault cannot be read.
        """
        if service.oauth is None:
            return None
        known = {one.registration_id: one for one in await self.all()}
        mine = (known.get(name) for name in (service.type_id, service.oauth.family))
        return next((one for one in mine if one is not None and one.family == service.oauth.family), None)

    async def all(self) -> tuple[Registration, ...]:
        """All in force, by id, damaged ones too."""
        kept = {one.registration_id: one for one in await self._vault.registrations()}
        in_force = kept | dict(self.declared)
        return tuple(in_force[name] for name in sorted(in_force))

    async def save(self, registration: Registration, *, actor: str) -> None:
        """Keep a registration in the vault.

        Raises:
            ConflictError: the settings declare that id, so what is kept would not count.
            StoreError: nothing was stored.
        """
        if registration.registration_id in self.declared:
            raise ConflictError(
                Fault(
                    f"registrations.{registration.registration_id}",
                    "is declared in the settings, which win: change it there",
                )
            )
        await self._vault.save_registration(registration, actor=actor)

    async def remove(self, registration_id: str, *, actor: str) -> bool:
        """Forget one of the vault's; False when there was none.

        Raises:
            StoreError: nothing was changed.
        """
        return await self._vault.remove_registration(registration_id, actor=actor)
