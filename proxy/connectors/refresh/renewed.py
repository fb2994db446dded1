"""A connection's row after a good answer to its refresh. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.catalog.model import Service
from proxy.catalog.params import check_config
from proxy.connectors.model import Tokens
from proxy.connectors.oauth.answers import Grant
from proxy.connectors.refresh.events import Flag
from proxy.connectors.rows import optional_ms, to_json, to_ms
from proxy.connectors.store import Row
from proxy.errors import ConfigurationError
from proxy.secret import Secret

ACCOUNT_ID = "account_id"  # in a connection's metadata: what the provider calls the account
FLAGS = "refresh_flags"  # in its metadata, until it is connected again: what an answer was conspicuous for


@dataclass(frozen=True, slots=True)
class Renewed:
    """``row``: the columns of ``connections`` without the sealed ones, which ``tokens`` become."""

    row: Mapping[str, Any]
    tokens: Tokens = field(repr=False)
    flags: tuple[Flag, ...] = ()


def renewed(
    row: Row,
    spent: Tokens,
    grant: Grant,
    *,
    service: Service | None,
    mark: Callable[[Secret], bytes],
    now: float,
    sequence: int,
    is_shared: bool,
) -> Renewed:
    """The row of the next generation.

    A frozen connection stays frozen; one that another attempt had declared dead lives again. Without a new
    refresh token the old one and its end stay in force (R114).
    """
    tokens = _tokens(spent, grant.tokens)
    config, told, refused = _config(row, grant, service)
    metadata = {**json.loads(row["metadata"]), **told, **grant.metadata}
    scopes = json.loads(row["scopes"]) if grant.scopes is None else list(grant.scopes)
    flags = _flags(row, grant, metadata, scopes, refused=refused, is_shared=is_shared)
    if grant.account_id is not None:
        metadata[ACCOUNT_ID] = grant.account_id
    if flags:
        metadata[FLAGS] = " ".join(sorted({*metadata.get(FLAGS, "").split(), *flags}))
    is_frozen = row["state"] == "frozen"
    settled = {
        **row,
        "state": "frozen" if is_frozen else "active",
        "cause": row["cause"] if is_frozen else None,
        "account": grant.account if "account_changed" in flags else row["account"] or grant.account,
        "scopes": to_json(scopes),
        "config": config,
        "metadata": to_json(metadata),
        "expires_at": optional_ms(tokens.expires_at),
        "issued_at": optional_ms(tokens.issued_at),
        "refresh_expires_at": optional_ms(tokens.refresh_expires_at),
        "grant_mark": mark(tokens.refresh_token or tokens.access_token),
        "generation": row["generation"] + 1,
        "updated_at": to_ms(now),
        "sequence": sequence,
    }
    return Renewed(settled, tokens, flags)


def _tokens(spent: Tokens, new: Tokens) -> Tokens:
    is_kept = new.refresh_token is None or (
        spent.refresh_token is not None and new.refresh_token == spent.refresh_token
    )
    end = new.refresh_expires_at
    return Tokens(
        new.access_token,
        new.refresh_token or spent.refresh_token,
        expires_at=new.expires_at,
        issued_at=new.issued_at,
        refresh_expires_at=spent.refresh_expires_at if end is None and is_kept else end,
    )


def _config(row: Row, grant: Grant, service: Service | None) -> tuple[str | None, Mapping[str, str], bool]:
    """The column, informational values, and True when what the answer told cannot be used: then it stays."""
    before = {} if row["config"] is None else json.loads(row["config"])
    if service is None or not grant.config:
        return row["config"], {}, bool(grant.unfit)
    try:
        config, told = check_config(service, {**before, **grant.config})
    except ConfigurationError:
        return row["config"], {}, True
    return None if config is None else to_json(dict(config)), told, bool(grant.unfit)


def _is_other(metadata: Mapping[str, str], grant: Grant) -> bool:
    """True when the grant is another account's. Names do not tell: the one shown may be the verify call's."""
    known = metadata.get(ACCOUNT_ID)
    return known is not None and grant.account_id is not None and known != grant.account_id


def _flags(
    row: Row, grant: Grant, metadata: Mapping[str, str], scopes: list[str], *, refused: bool, is_shared: bool
) -> tuple[Flag, ...]:
    is_other = _is_other(metadata, grant)
    found: tuple[tuple[Flag, bool], ...] = (
        ("account_changed", is_other),
        ("scopes_reduced", not set(json.loads(row["scopes"])) <= set(scopes)),
        ("shared_grant", is_shared),
        ("config_refused", refused),
    )
    return tuple(flag for flag, holds in found if holds)
