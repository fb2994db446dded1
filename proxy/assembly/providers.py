"""Apps at providers, the way to token endpoints, the refresher, the webhook's key, the sign-in's secret."""

import time
from collections.abc import Callable, Mapping

from proxy.catalog.model import Catalog
from proxy.catalog.reader import nearest
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.refresh.events import RefreshEvent
from proxy.connectors.refresh.refresher import Refresher
from proxy.connectors.vault import Vault
from proxy.connectors.webhook import signing_key
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.egress import Dialer
from proxy.secret import Secret
from proxy.settings import Settings, environment
from proxy.token_session import session_connector


def declared_registrations(settings: Settings, catalog: Catalog) -> Mapping[str, Registration]:
    """The apps of ``[registrations.ID]``, by id; without those whose services are switched off.

    Raises:
        ConfigurationError: a secret that is not where it should be, an id whose family nobody knows.
    """
    families = {one.oauth.family for one in catalog.services.values() if one.oauth is not None}
    is_narrowed = bool(settings.services.enabled)
    faults: list[Fault] = []
    made: dict[str, Registration] = {}
    for name, given in settings.registrations.items():
        place = f"registrations.{name}"
        family = given.family or _family_of(name, catalog)
        if family not in families:
            what = f"{name} is neither a family nor a service" if family is None else "no service is of it"
            if not is_narrowed:
                faults.append(Fault(f"{place}.family", f"{what}{nearest(family or name, families)}"))
            continue
        try:
            secret = given.client_secret
            read = None if secret is None else secret.read(environment(), place=f"{place}.client_secret")
            made[name] = Registration(name, family, given.client_id or "", read)
        except ConfigurationError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigurationError(*faults)
    return made


def _family_of(name: str, catalog: Catalog) -> str | None:
    """The family that an id names: itself, or that of the service of this name."""
    service = catalog.get(name)
    if service is not None and service.oauth is not None:
        return service.oauth.family
    known = {one.oauth.family for one in catalog.services.values() if one.oauth is not None}
    return name if name in known else None


def oidc_secret(settings: Settings) -> Secret | None:
    """The secret of our app at the identity provider; None for a public client, and where there is no app.

    Raises:
        ConfigurationError: it is not where it should be, or cannot be one.
    """
    given, place = settings.control.oidc, "control.oidc.client_secret"
    if given.issuer is None or given.client_secret is None:
        return None
    secret = given.client_secret.read(environment(), place=place)
    if not (secret.reveal().isascii() and secret.reveal().isprintable()):
        raise ConfigurationError(Fault(place, "must be printable ASCII"))
    return secret


def token_endpoint(dialer: Dialer) -> TokenEndpoint:
    """The way to providers' token endpoints, under the dialer's egress rules."""
    return TokenEndpoint(lambda url: session_connector(dialer, url), time.time)


def refresher_of(
    settings: Settings,
    catalog: Catalog,
    vault: Vault,
    registrations: Registrations,
    *,
    dialer: Dialer,
    on_event: Callable[[RefreshEvent], None],
) -> Refresher:
    """What keeps the vault's tokens fresh, with a way to token endpoints of its own."""
    return Refresher(
        vault,
        catalog,
        registrations,
        token_endpoint(dialer),
        clock=time.time,
        data_dir=settings.storage.data_dir,
        on_event=on_event,
    )


def webhook_key(settings: Settings) -> bytes | None:
    """What notices are signed with; None where no webhook is set.

    Raises:
        ConfigurationError: the secret is not there, or too short.
    """
    if settings.webhook.url is None or settings.webhook.secret is None:
        return None
    try:
        return signing_key(settings.webhook.secret.read(environment(), place="webhook.secret"))
    except ValueError as error:
        raise ConfigurationError(Fault("webhook.secret", str(error))) from None
