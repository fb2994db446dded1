"""All operations, by name: of these the admin API, its document and a remote command line are made."""

from collections.abc import Mapping
from types import MappingProxyType

from proxy.operations import (
    accounts,
    audit,
    flows,
    keys,
    limits,
    observed,
    registrations,
    services,
    state,
    tokens,
    users,
)
from proxy.operations.operation import Operation

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        one.name: one
        for module in (
            services,
            registrations,
            accounts,
            flows,
            keys,
            observed,
            tokens,
            users,
            audit,
            limits,
            state,
        )
        for one in module.OPERATIONS
    }
)
