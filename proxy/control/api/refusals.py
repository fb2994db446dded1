"""What goes wrong in the admin API, as problem details; codes are in ``problems``."""

from collections.abc import Mapping, Sequence

from aiohttp import web

from proxy import problems
from proxy.connectors.outcomes import FlowRefused
from proxy.connectors.seal import SealBrokenError
from proxy.control.guarded import response_of
from proxy.errors import (
    ConfigurationError,
    ConflictError,
    ConnectorProxyError,
    Fault,
    ForbiddenError,
    MissingError,
    RequestError,
    SetupError,
)
from proxy.problems import Problem

RETRY_S = 2


class Refused(ConnectorProxyError):  # noqa: N818  # named for what happened, as the errors of requests are
    """A request that no operation sees.

    Args:
        row: of ``problems``.
        detail: one sentence for the caller.
        faults: what is wrong with it, by field.
        headers: of the answer.
    """

    def __init__(
        self,
        row: Problem,
        detail: str,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.row = row
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})


_ROWS: tuple[tuple[type[ConfigurationError], Problem], ...] = (
    (MissingError, problems.NOT_FOUND),
    (ConflictError, problems.CONFLICT),
    (ForbiddenError, problems.INSUFFICIENT_SCOPE),
    (ConfigurationError, problems.NOT_ACCEPTED),
)


def answer_to(error: ConnectorProxyError, request_id: str) -> web.Response:
    """The answer to a request that failed in a way that is foreseen."""
    if isinstance(error, RequestError):
        return response_of(problems.problem(error, request_id=request_id, plane="control"))
    refused = _refused(error)
    response = response_of(
        problems.plain(
            refused.row, refused.detail, request_id=request_id, plane="control", faults=refused.faults
        )
    )
    response.headers.update(refused.headers)
    return response


def _refused(error: ConnectorProxyError) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, ConfigurationError):
        row = next(row for kind, row in _ROWS if isinstance(error, kind))
        return Refused(row, "; ".join(str(fault) for fault in error.faults), error.faults)
    if isinstance(error, FlowRefused):
        return Refused(problems.NOT_ACCEPTED, str(error))
    if isinstance(error, SealBrokenError):  # no time mends it
        return Refused(problems.VAULT_UNAVAILABLE, str(error))
    if isinstance(error, SetupError):
        detail = "the vault cannot be read or written for now: see the server's log"
        return Refused(problems.VAULT_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_S)})
    return Refused(problems.INTERNAL, problems.INTERNAL_DETAIL)
