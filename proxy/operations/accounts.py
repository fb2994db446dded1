"""The operations on connections: listed, handed in, stopped, tried, ended."""

from collections.abc import Mapping

from proxy.admintokens import Scope
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.refresh import states
from proxy.disconnecting import Disconnecting
from proxy.errors import ConfigurationError, Fault
from proxy.operations import fields, paging
from proxy.operations.connections import (
    SCHEMES,
    Granted,
    connection_details,
    connection_document,
    find_connection,
)
from proxy.operations.moments import parse_moment, rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation
from proxy.secret import Secret
from proxy.verify import Verdict, verify_all


async def _list(ground: Ground, asked: Asked) -> Document:
    shown = () if ground.held is None else await states.shown(ground.vault)
    wanted = {name: asked.query[name] for name in ("service", "state") if name in asked.query}
    found = [one for one in shown if all(getattr(one, name) == value for name, value in wanted.items())]
    return paging.page(asked, found, _position, connection_document)


def _position(one: Connection) -> paging.Position:
    return one.service, f"{round(one.created_at * 1000):015d}", one.connection_id


async def _show(ground: Ground, asked: Asked) -> Document:
    named = find_connection(ground.vault, asked.path["connection"])
    same = (one for one in await states.shown(ground.vault) if one.connection_id == named.connection_id)
    attempts = await states.attempts(ground.vault, named.connection_id)
    return connection_details(next(same, named), attempts)


async def _import(ground: Ground, asked: Asked) -> Document:
    body = asked.body
    refresh = body.get("refresh_token")
    scheme = next((one for one in SCHEMES if one == body.get("scheme")), None)
    saved = await ground.vault.save_connection(
        body["service"],
        body["name"],
        Tokens(
            Secret(body["access_token"]),
            None if refresh is None else Secret(refresh),
            _expires_at(body, ground.now),
        ),
        config=body.get("config", {}),
        scheme=scheme,
        scopes=body.get("scopes", ()),
        actor=asked.actor,
    )
    return connection_document(saved)


def _expires_at(body: Mapping[str, object], now: float) -> float | None:
    given = body.get("expires_at")
    if not isinstance(given, str):
        return None
    try:
        return parse_moment(given, now, 1)
    except ValueError as error:
        raise ConfigurationError(Fault("expires_at", str(error))) from None


def tokens_body(granted: Granted) -> dict[str, object]:
    """What was handed in, as the operation takes it; its texts are the tokens themselves."""
    tokens = granted.tokens
    told = {
        "access_token": tokens.access_token.reveal(),
        "refresh_token": None if tokens.refresh_token is None else tokens.refresh_token.reveal(),
        "expires_at": rfc3339(tokens.expires_at),
        "scopes": list(granted.scopes) or None,
    }
    return {name: value for name, value in told.items() if value is not None}


async def _default(ground: Ground, asked: Asked) -> Document:
    one = find_connection(ground.vault, asked.path["connection"])
    await ground.vault.set_default(one.service, one.name, actor=asked.actor)
    return {"service": one.service, "name": one.name, "done": "default"}


async def _freeze(ground: Ground, asked: Asked) -> Document:
    return await _set_frozen(ground, asked, frozen=True)


async def _thaw(ground: Ground, asked: Asked) -> Document:
    return await _set_frozen(ground, asked, frozen=False)


async def _set_frozen(ground: Ground, asked: Asked, *, frozen: bool) -> Document:
    one = find_connection(ground.vault, asked.path["connection"])
    await ground.vault.freeze(one.service, one.name, frozen=frozen, actor=asked.actor)
    return {"service": one.service, "name": one.name, "done": "freeze" if frozen else "thaw"}


async def _freeze_all(ground: Ground, asked: Asked) -> Document:
    return {"done": "freeze", "count": await ground.vault.freeze_all(actor=asked.actor)}


async def _thaw_all(ground: Ground, asked: Asked) -> Document:
    return {"done": "thaw", "count": await ground.vault.freeze_all(frozen=False, actor=asked.actor)}


async def _verify(ground: Ground, asked: Asked) -> Document:
    one = find_connection(ground.vault, asked.path["connection"])
    (verdict,) = await verify_all(ground.settings, ground.vault, ground.catalog, (one,))
    return verdict_document(verdict)


def verdict_document(one: Verdict) -> Mapping[str, object]:
    """What a service said about a connection."""
    return {
        "service": one.service,
        "name": one.connection,
        "ok": one.ok,
        "status": one.status,
        "account": one.account,
        "reason": one.reason,
    }


async def _remove(ground: Ground, asked: Asked) -> Document:
    parts = ground.parts
    one = find_connection(ground.vault, asked.path["connection"])
    ending = Disconnecting(ground.vault, ground.catalog, parts.registrations, parts.endpoint)
    revocation = await ending.disconnect(one, wanted=asked.query.get("revoke"), actor=asked.actor)
    told = {"service": one.service, "name": one.name, "done": "remove"}
    return {**told, "revoked": revocation.done, "about": revocation.sentence}


_WRITE: tuple[Scope, ...] = ("connections:write",)
_STATES = ("active", "refreshing", "reauthorization_required", "frozen", "disconnected")
_CONNECTION = {
    "id": fields.STRING,
    "service": fields.STRING,
    "name": fields.STRING,
    "default": fields.BOOLEAN,
    "state": fields.chosen("Whether its token can be used", *_STATES),
    "cause": fields.MAYBE_STRING,
    "account": fields.MAYBE_STRING,
    "scopes": fields.STRINGS,
    "expires_at": fields.MAYBE_TIME,
    "refresh_expires_at": fields.MAYBE_TIME,
    "config": {**fields.TEXTS, "type": ["object", "null"]},
}
_DETAILS = {
    **_CONNECTION,
    "remedy": fields.MAYBE_STRING,
    "scheme": fields.MAYBE_STRING,
    "metadata": fields.TEXTS,
    "registration": fields.MAYBE_STRING,
    "asked_scopes": fields.STRINGS,
    "missing_scopes": fields.STRINGS,
    "issued_at": fields.MAYBE_TIME,
    "generation": fields.NUMBER,
    "refreshed_at": fields.MAYBE_TIME,
    "refresh_failures": fields.NUMBER,
    "refresh_error": fields.MAYBE_STRING,
    "refresh_retry_at": fields.MAYBE_TIME,
    "created_at": fields.TIME,
    "updated_at": fields.TIME,
}
_VERDICT = {
    "service": fields.STRING,
    "name": fields.STRING,
    "ok": fields.BOOLEAN,
    "status": fields.maybe(fields.NUMBER),
    "account": fields.MAYBE_STRING,
    "reason": fields.MAYBE_STRING,
}
LISTED = tuple(_CONNECTION)
"""Members of a connection as it is listed."""
_DONE = {"service": fields.STRING, "name": fields.STRING, "done": fields.STRING}
_COUNT = fields.told({"done": fields.STRING, "count": fields.NUMBER})
_TOKEN = {**fields.text("A token", most=65536, least=1), "writeOnly": True}
_NEW = fields.given(
    {
        "service": fields.SERVICE,
        "name": fields.CONNECTION_NAME,
        "access_token": _TOKEN,
        "refresh_token": _TOKEN,
        "expires_at": fields.MOMENT,
        "scopes": fields.several(fields.SCOPE, "Those granted"),
        "config": fields.texts_by_name("Values of connection_config"),
        "scheme": fields.chosen("How the token is sent, if not as usual", *SCHEMES),
    },
    "service",
    "name",
    "access_token",
)
_ONE = "/connections/{connection}"
OPERATIONS = (
    Operation(
        "connections.list",
        "GET",
        "/connections",
        "Connected accounts, by service, oldest first",
        ("read",),
        fields.page_of(fields.told(_CONNECTION)),
        _list,
        query={
            **fields.ONE_BY_ONE,
            "service": fields.SERVICE,
            "state": fields.chosen("Only those in this state", *_STATES),
        },
    ),
    Operation(
        "connections.import",
        "POST",
        "/connections",
        "Store an account's tokens; under a name that exists the connection is renewed",
        _WRITE,
        fields.told(_CONNECTION),
        _import,
        body=_NEW,
        creates=True,
        location="/connections/{service}@{name}",
    ),
    Operation(
        "connections.show",
        "GET",
        _ONE,
        "One connection with its refreshes; never a token",
        ("read",),
        fields.told(_DETAILS),
        _show,
    ),
    Operation(
        "connections.remove",
        "DELETE",
        _ONE,
        "Revoke a connection at its provider, as far as that can be, and erase its tokens",
        _WRITE,
        fields.told({**_DONE, "revoked": fields.BOOLEAN, "about": fields.STRING}),
        _remove,
        query={"revoke": fields.flag("Tell the provider, or do not, whatever would be prudent")},
    ),
    Operation(
        "connections.default",
        "POST",
        f"{_ONE}/default",
        "Make it the connection that addresses without @NAME mean",
        _WRITE,
        fields.told(_DONE),
        _default,
    ),
    Operation(
        "connections.freeze",
        "POST",
        f"{_ONE}/freeze",
        "Stop handing out its token, on every instance",
        _WRITE,
        fields.told(_DONE),
        _freeze,
    ),
    Operation(
        "connections.thaw",
        "POST",
        f"{_ONE}/thaw",
        "Use it again",
        _WRITE,
        fields.told(_DONE),
        _thaw,
    ),
    Operation(
        "connections.verify",
        "POST",
        f"{_ONE}/verify",
        "Call the service once with the stored token: does it live, and whose is it?",
        _WRITE,
        fields.told(_VERDICT),
        _verify,
    ),
    Operation(
        "connections.freeze_all",
        "POST",
        "/all-connections/freeze",
        "Stop handing out every token, on every instance",
        _WRITE,
        _COUNT,
        _freeze_all,
    ),
    Operation(
        "connections.thaw_all",
        "POST",
        "/all-connections/thaw",
        "Use again every connection that an operator froze",
        _WRITE,
        _COUNT,
        _thaw_all,
    ),
)
