"""Values put into the addresses and params of a service's ``[oauth]`` table."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from proxy.catalog.grants import OAuth
from proxy.catalog.model import Service
from proxy.catalog.origin import PLACEHOLDER
from proxy.errors import ConnectionConfigMissing, CredentialInvalid


def oauth_of(service: Service) -> OAuth:
    """The service's ``[oauth]`` table.

    Raises:
        ValueError: it has none; callers look before they ask.
    """
    if service.oauth is None:
        raise ValueError(f"{service.type_id} has no [oauth] table")
    return service.oauth


def fill(service: Service, text: str, config: Mapping[str, str], flow: Mapping[str, str]) -> str:
    """A param's text with its ``{name}`` places filled: from ``flow``, else the connection, else the default.

    Raises:
        ConnectionConfigMissing: a value is nowhere.
        CredentialInvalid: a value does not have the form that the service's file gives it.
    """
    return PLACEHOLDER.sub(lambda hit: _value(service, hit.group(1), config, flow), text)


def endpoint(service: Service, text: str, config: Mapping[str, str], flow: Mapping[str, str]) -> str:
    """An OAuth endpoint's address; no value can turn it to a host that the file does not bind (R81).

    A param that is the host goes through the origin of one of ``[[hosts]]``, which checks its suffix; one in
    the path is checked against its pattern and percent-encoded whole, so that it cannot end the segment.

    Raises:
        ConnectionConfigMissing, CredentialInvalid: as :func:`fill`.
    """
    scheme, mark, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    filled = PLACEHOLDER.sub(lambda hit: quote(_value(service, hit.group(1), config, flow), safe=""), path)
    origin = scheme + mark + authority
    if "{" in authority:
        bound = next(
            (h.origin for h in service.hosts if h.origin.suffixes and authority in h.origin.text), None
        )
        if bound is None:
            raise CredentialInvalid("no host of the service binds its OAuth address", service=service.type_id)
        origin = str(bound.build(_values_for(service, bound.params, config), service=service.type_id))
    return origin + slash + filled


def _values_for(service: Service, names: tuple[str, ...], config: Mapping[str, str]) -> dict[str, str]:
    return {name: _value(service, name, config, {}) for name in names}


def _value(service: Service, name: str, config: Mapping[str, str], flow: Mapping[str, str]) -> str:
    if name in flow:
        return flow[name]
    param = service.params.get(name)
    value = config.get(name) or (param.default if param is not None else None)
    if param is None or not value:
        raise ConnectionConfigMissing(f"the connection lacks {name}", service=service.type_id)
    if not value.isascii() or re.fullmatch(param.pattern, value, re.ASCII) is None:
        raise CredentialInvalid(
            f"the connection's {name} does not have the form of {param.title or name}",
            service=service.type_id,
        )
    return value
