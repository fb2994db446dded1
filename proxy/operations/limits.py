"""What services say is left of their limits."""

from proxy.budgets import Budget
from proxy.operations import fields, paging
from proxy.operations.moments import rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation


def budget_document(one: Budget) -> Document:
    """A connection's as it is listed."""
    return {
        "service": one.service,
        "connection": one.connection,
        "remaining": one.last.left.remaining,
        "limit": one.last.left.limit,
        "at": rfc3339(one.last.at),
    }


async def _list(ground: Ground, asked: Asked) -> Document:
    told = () if ground.budgets is None else tuple(one for one, _ in ground.budgets().hour())
    return paging.page(asked, told, lambda one: (one.service, one.connection), budget_document)


OPERATIONS = (
    Operation(
        "rate_limits.list",
        "GET",
        "/rate-limits",
        "How many calls services said are left, by connection; of the last hour, since the server's start",
        ("read",),
        fields.page_of(
            fields.told(
                {
                    "service": fields.STRING,
                    "connection": fields.STRING,
                    "remaining": {
                        **fields.NUMBER,
                        "description": "The least that its latest answers told",
                    },
                    "limit": fields.maybe(
                        {**fields.NUMBER, "description": "Of so many; null: not told"},
                    ),
                    "at": fields.TIME,
                }
            )
        ),
        _list,
        query=fields.ONE_BY_ONE,
    ),
)
