"""The operations on flows: attempts to connect an account by its provider's consent."""

from proxy.connectors.flow import Begun, Wish, oauth_of
from proxy.connectors.oauth.messages import needs_browser
from proxy.connectors.outcomes import FlowRefused, Outcome
from proxy.errors import Fault, MissingError
from proxy.operations import fields
from proxy.operations.moments import rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation
from proxy.operations.services import find_service


async def _begin(ground: Ground, asked: Asked) -> Document:
    body, connecting = asked.body, ground.parts.connecting
    scopes = body.get("scopes")
    wish = Wish(
        body["service"],
        body["name"],
        body.get("params", {}),
        None if scopes is None else tuple(scopes),
        body.get("registration"),
    )
    service = find_service(ground.catalog, wish.service)
    oauth_of(service)
    if needs_browser(service):
        begun = await connecting.flows.begin(wish, actor=asked.actor)
        return _begun(begun, wish, connecting.flows.public_url)
    registration = await connecting.flows.registration_for(service, wish.registration)
    outcome = await connecting.mint(service, wish.name, registration, wish.params, actor=asked.actor)
    return {**_NOBODY, "stage": "done" if outcome.ok else "failed", "outcome": outcome_document(outcome)}


_NOBODY = {"id": None, "link": None, "code": None, "expires_at": None}


def _begun(begun: Begun, wish: Wish, public_url: str) -> Document:
    return {
        "id": begun.flow_id,
        "link": f"{public_url}/connect/{wish.service}?link={begun.link.reveal()}",
        "code": begun.code,
        "expires_at": rfc3339(begun.expires_at),
        "stage": "begun",
        "outcome": None,
    }


async def _show(ground: Ground, asked: Asked) -> Document:
    flow_id = asked.path["flow"]
    try:
        stage, outcome = await ground.parts.connecting.flows.progress(flow_id)
    except FlowRefused:
        raise MissingError(Fault(flow_id, "there is no such flow; ended ones are kept for an hour")) from None
    return {"id": flow_id, "stage": stage, "outcome": None if outcome is None else outcome_document(outcome)}


def outcome_document(one: Outcome) -> Document:
    """What a flow came to."""
    return {
        "ok": one.ok,
        "service": one.service,
        "name": one.name,
        "reason": one.reason,
        "detail": one.detail,
        "account": one.account,
        "previous_account": one.previous_account,
        "asked": list(one.asked),
        "granted": list(one.granted),
        "missing": list(one.missing),
        "notes": list(one.notes),
        "is_default": one.is_default,
    }


_OUTCOME = fields.told(
    {
        "ok": fields.BOOLEAN,
        "service": fields.STRING,
        "name": fields.STRING,
        "reason": fields.STRING,
        "detail": fields.STRING,
        "account": fields.MAYBE_STRING,
        "previous_account": fields.MAYBE_STRING,
        "asked": fields.STRINGS,
        "granted": fields.STRINGS,
        "missing": fields.STRINGS,
        "notes": fields.STRINGS,
        "is_default": fields.BOOLEAN,
    }
)
_STAGE = fields.chosen("How far it is", "begun", "opened", "away", "back", "done", "failed")
_PROGRESS = {"stage": _STAGE, "outcome": fields.maybe(_OUTCOME)}
_WISH = fields.given(
    {
        "service": fields.SERVICE,
        "name": fields.CONNECTION_NAME,
        "params": fields.texts_by_name("Values of connection_config and metadata"),
        "scopes": fields.several(fields.SCOPE, "Permissions to ask for, if not the usual ones", least=1),
        "registration": fields.REGISTRATION,
    },
    "service",
    "name",
)
OPERATIONS = (
    Operation(
        "flows.begin",
        "POST",
        "/flows",
        "Begin to connect an account: a link for one browser; or, where no consent is needed, the outcome",
        ("connections:write",),
        fields.told(
            {
                "id": fields.MAYBE_STRING,
                "link": fields.MAYBE_STRING,
                "code": fields.MAYBE_STRING,
                "expires_at": fields.MAYBE_TIME,
                **_PROGRESS,
            }
        ),
        _begin,
        body=_WISH,
        creates=True,
        location="/flows/{id}",
    ),
    Operation(
        "flows.show",
        "GET",
        "/flows/{flow}",
        "How far a flow is, and what it came to",
        ("read", "connections:write"),
        fields.told({"id": fields.STRING, **_PROGRESS}),
        _show,
    ),
)
