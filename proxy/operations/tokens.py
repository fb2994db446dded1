"""Admin tokens: made, listed, put out of force."""

from collections.abc import Iterable, Mapping, Sequence

from proxy import admintokens
from proxy.admintokens import SCOPES, Scope, TokenRecord
from proxy.catalog.reader import nearest
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault, MissingError
from proxy.keys import digest
from proxy.operations import fields, paging
from proxy.operations.keys import check_key_name, expiry
from proxy.operations.moments import rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation
from proxy.secret import Secret


async def create_token(
    vault: Vault, name: str, scopes: Sequence[str], expires: str | None, *, now: float, actor: str
) -> tuple[TokenRecord, Secret]:
    """Make a token and store its record; the token itself is given back once and kept nowhere.

    Raises:
        ConfigurationError: every value that makes no sense, or the name is taken.
    """
    faults: list[Fault] = []
    now = round(now, 3)  # as it is stored, so that it reads the same
    check_key_name(name, faults)
    granted: set[Scope] = {one for one in SCOPES if one in scopes}
    faults += [
        Fault(
            "scopes", f"there is no such scope: {one[:60]}{nearest(one, SCOPES)}; known: {', '.join(SCOPES)}"
        )
        for one in scopes
        if one not in granted
    ]
    if not scopes:
        faults.append(Fault("scopes", f"a token needs at least one of {', '.join(SCOPES)}"))
    expires_at = None if expires is None else expiry(expires, now, faults)
    if faults:
        raise ConfigurationError(*faults)
    token_id, token = admintokens.generate()
    record = TokenRecord(
        token_id,
        name,
        digest(token.reveal().encode()),
        frozenset(granted),
        created_at=now,
        expires_at=expires_at,
    )
    await vault.add_admin_token(record, actor=actor)
    return record, token


def find_token(records: Iterable[TokenRecord], wanted: str) -> TokenRecord:
    """The token of that id, or the one in force (else the latest) of that name.

    Raises:
        MissingError: there is none.
    """
    known = list(records)
    found = [one for one in known if one.token_id == wanted] or sorted(
        (one for one in known if one.name == wanted), key=lambda one: (one.revoked_at is None, one.created_at)
    )
    if not found:
        hint = nearest(wanted, [*(one.token_id for one in known), *(one.name for one in known)])
        raise MissingError(Fault(wanted[:60], f"there is no such token{hint}"))
    return found[-1]


def token_document(one: TokenRecord, now: float) -> Mapping[str, object]:
    """A token as it is listed; never the token itself."""
    state = "active" if one.is_live(now) else "expired"
    return {
        "id": one.token_id,
        "name": one.name,
        "state": state if one.revoked_at is None else "revoked",
        "scopes": sorted(one.scopes),
        "created_at": rfc3339(one.created_at),
        "expires_at": rfc3339(one.expires_at),
        "revoked_at": rfc3339(one.revoked_at),
        "last_used_at": rfc3339(one.last_used_at),
    }


# --- operations ---------------------------------------------------------------------------------------


async def _create(ground: Ground, asked: Asked) -> Document:
    body = asked.body
    record, token = await create_token(
        ground.vault, body["name"], body["scopes"], body.get("expires"), now=ground.now, actor=asked.actor
    )
    return {**token_document(record, ground.now), "token": token.reveal()}


async def _list(ground: Ground, asked: Asked) -> Document:
    found = () if ground.held is None else await ground.vault.admin_tokens()
    return paging.page(
        asked,
        found,
        lambda one: (f"{round(one.created_at * 1000):015d}", one.token_id),
        lambda one: token_document(one, ground.now),
    )


async def _revoke(ground: Ground, asked: Asked) -> Document:
    record = find_token(await ground.vault.admin_tokens(), asked.path["token"])
    revoked = await ground.vault.revoke_admin_token(record.token_id, actor=asked.actor)
    return {"id": record.token_id, "name": record.name, "revoked": revoked}


_TOKEN = {
    "id": fields.STRING,
    "name": fields.STRING,
    "state": fields.chosen("Whether it is in force", "active", "expired", "revoked"),
    "scopes": fields.STRINGS,
    "created_at": fields.TIME,
    "expires_at": fields.MAYBE_TIME,
    "revoked_at": fields.MAYBE_TIME,
    "last_used_at": fields.MAYBE_TIME,
}
_NEW = fields.given(
    {
        "name": fields.KEY_NAME,
        "scopes": fields.several(fields.chosen("A scope", *SCOPES), "At least one", least=1),
        "expires": fields.MOMENT,
    },
    "name",
    "scopes",
)
OPERATIONS = (
    Operation(
        "tokens.list",
        "GET",
        "/tokens",
        "Admin tokens, oldest first; revoked ones stay listed",
        ("admin",),
        fields.page_of(fields.told(_TOKEN)),
        _list,
        query=fields.ONE_BY_ONE,
    ),
    Operation(
        "tokens.create",
        "POST",
        "/tokens",
        "Make an admin token; the answer is the only place where it is ever shown",
        ("admin",),
        fields.told({**_TOKEN, "token": fields.STRING}),
        _create,
        body=_NEW,
        creates=True,
    ),
    Operation(
        "tokens.revoke",
        "POST",
        "/tokens/{token}/revoke",
        "Put an admin token out of force for good, on every instance",
        ("admin",),
        fields.told({"id": fields.STRING, "name": fields.STRING, "revoked": fields.BOOLEAN}),
        _revoke,
    ),
)
