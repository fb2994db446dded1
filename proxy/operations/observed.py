"""What a key's observing permits would have refused: for whoever is about to enforce them."""

from collections.abc import Mapping

from proxy.connectors.observed import Observed
from proxy.operations import fields, paging
from proxy.operations.keys import find_key
from proxy.operations.moments import rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation


async def _list(ground: Ground, asked: Asked) -> Document:
    record = find_key(ground.keys().values(), asked.path["key"], declared=True)
    found = () if ground.held is None else await ground.vault.observed_of(record.key_id)
    return paging.page(asked, found, lambda one: (one.service, one.method, one.path), _document)


def _document(one: Observed) -> Mapping[str, object]:
    return {
        "service": one.service,
        "method": one.method,
        "path": one.path,
        "requests": one.requests,
        "first_at": rfc3339(one.first_at),
        "last_at": rfc3339(one.last_at),
    }


OPERATIONS = (
    Operation(
        "keys.observed",
        "GET",
        "/keys/{key}/observed",
        "What its observing permits would have refused, counted by service, method and shape of the path; "
        "calls that were too many to be told apart are one item, in which all three are other",
        ("read",),
        fields.page_of(
            fields.told(
                {
                    "service": fields.STRING,
                    "method": fields.STRING,
                    "path": {"type": "string", "description": "Ids in it are *"},
                    "requests": fields.NUMBER,
                    "first_at": fields.TIME,
                    "last_at": fields.TIME,
                }
            )
        ),
        _list,
        query=fields.ONE_BY_ONE,
    ),
)
