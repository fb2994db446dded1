"""The provider's half of a file, one function a table: OAuth, verify call, rate limits, failures, errors."""

import re
from typing import Literal, get_args

from proxy.catalog.grants import Dialect, Failure, OAuth, Verified, Verify
from proxy.catalog.jsonpath import JSON_PATH
from proxy.catalog.model import ErrorShape, RateLimit
from proxy.catalog.reader import Table

LIMIT_UNITS = (
    "seconds", "seconds_decimal", "epoch_s", "epoch_s_decimal", "epoch_ms", "milliseconds",
    "count", "ratio", "window", "text",
)  # fmt: skip
ANSWER_FIELDS = (
    "access_token", "refresh_token", "expires_in", "refresh_expires_in", "scope", "token_type", "account_id",
    "account_name", "issued_at",
)  # fmt: skip
_ENDPOINT = r"https?://[!-~]+"
_ENDPOINT_WORDS = "an address that begins with https://"
_JSON_WORDS = "a dotted path such as data.user.id or items[0].id"
_STATUS = (100, 599)
_OWN = "a status of the proxy's own, 400 to 599"

_VERIFIED: tuple[Verified, ...] = get_args(Verified)
_GRANTS: tuple[Literal["authorization_code", "client_credentials"], ...] = (
    "authorization_code",
    "client_credentials",
)
_CLIENT_AUTH: tuple[Literal["basic", "body", "none"], ...] = ("basic", "body", "none")
_BODIES: tuple[Literal["form", "json"], ...] = ("form", "json")
_PKCE: tuple[Literal["required", "supported", "off"], ...] = ("required", "supported", "off")
_REFRESH: tuple[Literal["stable", "rotating_strict", "rotating_lenient", "none", "remint"], ...] = (
    "stable", "rotating_strict", "rotating_lenient", "none", "remint",
)  # fmt: skip
_REVOKE_AUTH: tuple[Literal["body", "basic", "bearer", "none"], ...] = ("body", "basic", "bearer", "none")
_REVOKE_BODY: tuple[Literal["form", "json", "none"], ...] = ("form", "json", "none")
_REVOKE_TOKEN: tuple[Literal["refresh", "access", "both"], ...] = ("refresh", "access", "both")
_UNTOLD: tuple[Literal["lifetime", "never"], ...] = ("lifetime", "never")
_ON: tuple[Literal["api", "token"], ...] = ("api", "token")


def oauth(table: Table | None) -> OAuth | None:
    """``[oauth]``."""
    if table is None:
        return None
    decoded = OAuth(
        family=table.text("family", required=True, form=r"[a-z][a-z0-9_]*", what="a word"),
        authorization_url=_endpoint(table, "authorization_url", required=_asks_a_person(table)),
        token_url=_endpoint(table, "token_url", required=True),
        refresh_url=_endpoint(table, "refresh_url"),
        grant=table.choice("grant", _GRANTS, "authorization_code"),
        client_auth=table.choice("client_auth", _CLIENT_AUTH, "body"),
        client_id_param=table.text("client_id_param", "client_id"),
        token_body=table.choice("token_body", _BODIES, "form"),
        pkce=table.choice("pkce", _PKCE, "supported"),
        iss=table.flag("iss"),
        issuer=_endpoint(table, "issuer"),
        scopes=table.texts("scopes"),
        scopes_verified=table.choice("scopes_verified", _VERIFIED, "memory"),
        scope_param=table.text("scope_param", "scope"),
        scope_separator=table.text("scope_separator", " ", form=r"[ ,+]", what="a space, ',' or '+'"),
        authorization_params=table.pairs("authorization_params"),
        token_params=table.pairs("token_params"),
        refresh_params=table.pairs("refresh_params"),
        answer=_answer(table, "answer"),
        refresh_answer=_answer(table, "refresh_answer"),
        untold_expiry=table.choice("untold_expiry", _UNTOLD, "lifetime"),
        refresh=table.choice("refresh", _REFRESH, "stable"),
        refresh_grace_s=table.number("refresh_grace_s"),
        access_lifetime_s=table.number("access_lifetime_s", lowest=1),
        refresh_lifetime_s=table.number("refresh_lifetime_s", lowest=1),
        revoke_url=_endpoint(table, "revoke_url"),
        revoke_method=table.choice("revoke_method", ("POST", "DELETE"), "POST"),
        revoke_auth=table.choice("revoke_auth", _REVOKE_AUTH, "body"),
        revoke_body=table.choice("revoke_body", _REVOKE_BODY, "form"),
        revoke_param=table.text("revoke_param", "token"),
        revoke_token=table.choice("revoke_token", _REVOKE_TOKEN, "refresh"),
        revoke_hint=table.flag("revoke_hint"),
        revoke_shared=table.flag("revoke_shared"),
        introspect_url=_endpoint(table, "introspect_url"),
        login_hint=table.text("login_hint"),
        loopback_redirect=table.flag("loopback_redirect", default=True),
    )
    table.done()
    return decoded


def _endpoint(table: Table, key: str, *, required: bool = False) -> str:
    return table.text(key, required=required, form=_ENDPOINT, what=_ENDPOINT_WORDS)


def _asks_a_person(table: Table) -> bool:
    return table.choice("grant", _GRANTS, "authorization_code") == "authorization_code"


def _answer(table: Table, key: str) -> dict[str, str]:
    answer = table.pairs(key)
    for name, path in answer.items():
        if name not in ANSWER_FIELDS:
            table.fault(f"{key}.{name}", f"is not one of {', '.join(ANSWER_FIELDS)}")
        if re.fullmatch(JSON_PATH, path, re.ASCII) is None or not path:
            table.fault(f"{key}.{name}", f"must be {_JSON_WORDS}, not {path!r}")
    return answer


def verify(table: Table | None) -> Verify | None:
    """``[verify]``."""
    if table is None:
        return None
    decoded = Verify(
        method=table.choice("method", ("GET", "POST"), "GET"),
        path=table.text("path", required=True, form=r"/[!-~]*", what="a path that begins with '/'"),
        host=table.text("host"),
        body=table.text("body"),
        content_type=table.text("content_type"),
        id_path=table.text("id_path", form=JSON_PATH, what=_JSON_WORDS),
        name_path=table.text("name_path", form=JSON_PATH, what=_JSON_WORDS),
        ok_path=table.text("ok_path", form=JSON_PATH, what=_JSON_WORDS),
    )
    table.done()
    return decoded


def rate_limit(table: Table | None) -> RateLimit:
    """``[rate_limit]``."""
    if table is None:
        return RateLimit()
    headers = table.pairs("headers")
    for name, unit in headers.items():
        if unit not in LIMIT_UNITS:
            table.fault(f"headers.{name}", f"must be one of {', '.join(LIMIT_UNITS)}, not {unit!r}")
    decoded = RateLimit(
        statuses=table.numbers("statuses", lowest=_STATUS[0], highest=_STATUS[1]) or (429,),
        headers=headers,
        limits=table.text("limits"),
    )
    table.done()
    return decoded


def failure(table: Table | None) -> Failure:
    """``[[failure.expired]]``, ``[[failure.dead]]``, ``[[failure.never]]``."""
    if table is None:
        return Failure()
    decoded = Failure(
        expired=tuple(_dialect(entry) for entry in table.tables("expired")),
        dead=tuple(_dialect(entry) for entry in table.tables("dead")),
        never=tuple(_dialect(entry) for entry in table.tables("never")),
    )
    table.done()
    return decoded


def _dialect(table: Table) -> Dialect:
    decoded = Dialect(
        status=table.number("status", lowest=_STATUS[0], highest=_STATUS[1]) or 0,
        path=table.text("path", form=JSON_PATH, what=_JSON_WORDS),
        codes=table.texts("codes"),
        on=table.choice("on", _ON, "api"),
    )
    if not table.has("status"):
        table.fault("status", "is missing")
    if bool(decoded.path) != bool(decoded.codes):
        table.fault("codes", "path and codes go together: where to look, and for what")
    table.done()
    return decoded


def errors(table: Table | None) -> ErrorShape | None:
    """``[errors]``."""
    if table is None:
        return None
    decoded = ErrorShape(
        template=table.text("template", required=True),
        status=table.number("status", lowest=200, highest=_STATUS[1]),
        statuses=table.numbers("statuses", lowest=_STATUS[0], highest=_STATUS[1]),
        content_type=table.text("content_type", "application/json"),
        codes={
            int(name): word for name, word in table.pairs("codes", form="[45][0-9]{2}", what=_OWN).items()
        },
    )
    if decoded.codes.keys() and not {400, 500} <= decoded.codes.keys():
        table.fault("codes", "needs 400 and 500, for the statuses that it does not name")
    if bool(decoded.codes) != ("{service_code}" in decoded.template):
        table.fault("codes", "goes together with {service_code} in the template")
    if decoded.statuses and decoded.status is None:
        table.fault("statuses", "needs status: what goes out instead of them")
    table.done()
    return decoded
