"""What can come of a token request besides a grant, and which refusal means which (R120, R121).

::

    TokenFault
    ├── GrantDead          the person has to connect again
    ├── ApplicationFault   the registration or our request is refused: the operator's; the grant stays
    ├── ProviderBusy       a whole answer, and nothing was spent: try again later
    ├── OutcomeUnknown     it may have been carried out, and the answer did not come or cannot be read
    └── NotSent            nothing reached the provider

Texts never hold what the provider said, except its error code where that is a short word.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from oauthlib.oauth2.rfc6749 import errors as standard

from proxy.catalog.grants import Dialect
from proxy.catalog.jsonpath import first_at, values_at
from proxy.catalog.model import Service
from proxy.errors import ConnectorProxyError


class TokenFault(ConnectorProxyError):  # noqa: N818  # named for what is wrong, as in proxy.errors
    """A token request that gave no tokens.

    Args:
        detail: one sentence, safe to show.
        code: the provider's error code, if it gave a short word.
        retry_after: seconds after which the provider wants to be asked again, if it said so.
    """

    def __init__(self, detail: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.retry_after = retry_after


class GrantDead(TokenFault):
    """The grant or code is gone: revoked, expired, spent."""


class ApplicationFault(TokenFault):
    """The provider refuses the app or the request as such; no other grant would fare better."""


class ProviderBusy(TokenFault):
    """The provider answered that it did not do it, for a reason that may pass."""


class OutcomeUnknown(TokenFault):
    """A refresh token may be spent, and what came for it is lost."""


class NotSent(TokenFault):
    """The provider knows nothing of this request."""


_Kind = type[TokenFault]

_CODES: Mapping[str, _Kind] = {
    standard.InvalidGrantError.error: GrantDead,
    standard.InvalidClientError.error: ApplicationFault,
    standard.UnauthorizedClientError.error: ApplicationFault,
    standard.UnsupportedGrantTypeError.error: ApplicationFault,
    standard.InvalidRequestError.error: ApplicationFault,
    standard.InvalidScopeError.error: ApplicationFault,
    standard.ServerError.error: ProviderBusy,
    standard.TemporarilyUnavailableError.error: ProviderBusy,
}
"""RFC 6749 §5.2 and §4.1.2.1. A wrong request or scope is ours to mend: it says nothing about the grant."""

_CODE_PATHS = ("error", "error.code", "error.type", "code", "status", "category")
_WORD = re.compile(r"[A-Za-z]+(?:[_.-][A-Za-z]+)*_?[0-9]{0,6}", re.ASCII)
_MAX_CODE = 48

_REQUEST_TIMEOUT, _TOO_EARLY, _TOO_MANY, _SEE_OTHER = 408, 425, 429, 303
_NOT_DONE = frozenset({_REQUEST_TIMEOUT, _TOO_EARLY, _TOO_MANY, 500, 503})
_FIRST_SERVER_ERROR = 500


def refusal(service: Service, status: int, document: Mapping[str, Any] | None) -> TokenFault | None:
    """The fault that an answer states, or None for a 2xx that states none.

    The service's own ``[[failure]]`` entries come first (never, then dead), then the standard codes, then the
    status. 429, 500 and 503 say that nothing was done; other 5xx come from something in between, which may
    have passed the request on. No token endpoint redirects: a 3xx is a gate in front of it (maintenance, a
    moved host), so the request was not carried out, except with 303, which follows a POST that was
    (RFC 9110 §15.4.4).
    """
    for dialect, meaning in _stated(service):
        found = _match(dialect, status, document)
        if found is not None:
            return meaning(_sentence(service, status, found), code=found or None)
    is_success = 200 <= status < 300  # noqa: PLR2004  # RFC 9110 §15.3
    code = _code_of(document)
    if is_success and not _states_error(document):
        return None
    if status >= _FIRST_SERVER_ERROR or status in _NOT_DONE:
        is_refusal = status in _NOT_DONE
    else:
        standard_kind = _CODES.get(code or "")
        if standard_kind is not None:
            return standard_kind(_sentence(service, status, code), code=code)
        is_refusal = status != _SEE_OTHER
    kind: _Kind = ProviderBusy if is_refusal else OutcomeUnknown
    return kind(_sentence(service, status, code), code=code)


def _stated(service: Service) -> Iterator[tuple[Dialect, _Kind]]:
    yield from ((dialect, ApplicationFault) for dialect in service.failure.never)
    yield from ((dialect, GrantDead) for dialect in service.failure.dead)


def _match(dialect: Dialect, status: int, document: Mapping[str, Any] | None) -> str | None:
    """The code by which the answer fits the entry, empty when its status alone does; None: it does not."""
    if dialect.on != "token" or dialect.status != status:
        return None
    if not dialect.codes:
        return ""
    values = [value for value in values_at(document, dialect.path) if isinstance(value, str)]
    return next((code for code in dialect.codes if code in values), None)


def _states_error(document: Mapping[str, Any] | None) -> bool:
    """True for an error inside a success: ``error=...`` (GitHub, TikTok) or ``ok: false`` (Slack)."""
    if document is None:
        return False
    error = document.get("error")
    return document.get("ok") is False or (isinstance(error, str) and bool(error))


def _code_of(document: Mapping[str, Any] | None) -> str | None:
    for path in _CODE_PATHS:
        value = first_at(document, path)
        if isinstance(value, str) and len(value) <= _MAX_CODE and _WORD.fullmatch(value):
            return value
    return None


def _sentence(service: Service, status: int, code: str | None) -> str:
    said = f" and said {code}" if code else ""
    return f"{service.title} answered {status}{said} at its token endpoint"
