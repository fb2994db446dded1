"""``connection_config`` as somebody gave it, against what a service's file declares (R76)."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from proxy.catalog.model import Param, Service
from proxy.catalog.reader import nearest
from proxy.errors import ConfigurationError, Fault

MAX_LENGTH = 2048
"""Longer than any host, id or path of a site can be."""


def check_config(
    service: Service, given: Mapping[str, str], *, before_connecting: bool = False
) -> tuple[Mapping[str, str] | None, Mapping[str, str]]:
    """The normalised ``connection_config`` and the connection's metadata.

    ``before_connecting``: required values that the provider will tell may still be missing.

    Aliases become the declared name, host-like values lower case. What requests use is
    ``connection_config``, None when there is nothing; informational values are metadata. Defaults are
    not filled in: addresses have them already. Addresses check every value again at use
    (``OriginTemplate.build``).

    Raises:
        ConfigurationError: every unknown, doubled, missing or unfit value; values are not repeated in it.
    """
    faults: list[Fault] = []
    config: dict[str, str] = {}
    metadata: dict[str, str] = {}
    spellings = {name: param for param in service.params.values() for name in (param.name, *param.aliases)}
    for name, value in given.items():
        param = spellings.get(name)
        if param is None:
            faults.append(Fault(_place(service, name), _unknown(service, name, spellings)))
            continue
        target = metadata if param.informational else config
        try:
            normal = _normalise(param, value)
        except ValueError as error:
            faults.append(Fault(_place(service, name), str(error)))
            continue
        if target.setdefault(param.name, normal) != normal:
            faults.append(
                Fault(_place(service, name), f"says something else than another spelling of {param.name}")
            )
    named = {spellings[name].name for name in given if name in spellings}
    faults.extend(
        Fault(_place(service, param.name), f"is missing{_for_example(param)}")
        for param in service.params.values()
        if param.required and param.name not in named and not (before_connecting and param.source != "user")
    )
    faults.extend(_switched_off(service, config))
    if faults:
        raise ConfigurationError(*faults)
    return (MappingProxyType(config) if config else None), MappingProxyType(metadata)


def _place(service: Service, name: str) -> str:
    shown = name if re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", name) else repr(name)[:60]
    return f"{service.type_id}: {shown}"


def _unknown(service: Service, name: str, spellings: Mapping[str, Param]) -> str:
    if not service.params:
        return f"{service.title} needs no connection_config"
    return f"is not a value of {service.title}{nearest(name, spellings)}"


def _normalise(param: Param, value: object) -> str:
    """The value as it is kept.

    Raises:
        ValueError: it does not fit; the message does not hold it.
    """
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004  # told among the other faults
    if not value:
        raise ValueError(f"must not be empty{_for_example(param)}")
    if len(value) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    if not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII")
    normal = f"{param.prefix}{value}" if param.prefix and "://" not in value else value
    normal = normal.lower() if param.lower else normal
    if re.fullmatch(param.pattern, normal, re.ASCII) is None:
        raise ValueError(f"does not have the form of {param.title or param.name}{_for_example(param)}")
    return normal


def fitting(param: Param, value: object) -> str | None:
    """The value as it is kept, or None when it does not fit: for what a provider told."""
    try:
        return _normalise(param, value)
    except ValueError:
        return None


def _for_example(param: Param) -> str:
    return f", for example {param.example}" if param.example else ""


def _switched_off(service: Service, config: Mapping[str, str]) -> list[Fault]:
    """A value that chooses a host which is off would send the token elsewhere."""
    return [
        Fault(
            _place(service, name),
            f"{value} needs the host {service.type_id}.{host.name}, which is off: see [services] extra_hosts",
        )
        for host in service.hosts
        if not host.enabled
        for name, value in host.when.items()
        if config.get(name) == value
    ]
