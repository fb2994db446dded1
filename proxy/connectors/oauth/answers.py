"""What a token endpoint's answer means: a grant, or one of the faults. Nothing here does I/O."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from proxy.catalog.grants import OAuth
from proxy.catalog.jsonpath import first_at
from proxy.catalog.model import Param, Service
from proxy.catalog.params import fitting
from proxy.connectors.checked import MAX_TOKEN, token_fault
from proxy.connectors.model import Tokens
from proxy.connectors.oauth.bodies import UnreadableError, read_document, unpack
from proxy.connectors.oauth.faults import (
    ApplicationFault,
    GrantDead,
    NotSent,
    OutcomeUnknown,
    ProviderBusy,
    TokenFault,
    refusal,
)
from proxy.connectors.oauth.filling import oauth_of
from proxy.secret import Secret

__all__ = [
    "ApplicationFault", "Grant", "GrantDead", "NotSent", "OutcomeUnknown", "ProviderBusy", "TokenFault",
    "read_answer", "wait_of",
]  # fmt: skip

_EPOCH = 10**9  # a lifetime over 31 years is a point in time (Typeform was once said to give one)
_LONGEST_S = 20 * 365 * 86400.0  # what is told beyond that is as good as never
_MILLISECONDS = 10**12
_LONGEST_WAIT_S = 86400.0
_LONGEST_NAME = 200
_MAX_SCOPES = 1000
_TOKEN_SOURCE = "token:"  # noqa: S105  # the spelling of Param.source
_PROOF_TYPES = frozenset({"mac", "dpop", "pop", "n_a"})  # tokens that a header alone cannot use
_PRINTABLE = re.compile(r"[ -~]+", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Grant:
    """A good token answer.

    ``tokens.refresh_token`` None: the answer had none, the stored one stays in force (R114), and so does
    its end unless ``tokens.refresh_expires_at`` is told. ``scopes`` None: not told, so those asked for
    (RFC 6749 §5.1). ``config`` and ``metadata``: values that the answer told and that have their form;
    ``unfit``: names of those that have not, which are left as they were.
    """

    tokens: Tokens
    scopes: tuple[str, ...] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    account_id: str | None = None
    unfit: tuple[str, ...] = ()


def read_answer(
    service: Service,
    status: int,
    content_type: str,
    body: bytes,
    *,
    sent_at: float,
    refreshed: bool = False,
    retry_after: str = "",
    coding: str = "",
) -> Grant:
    """The grant that a whole answer gives. Lifetimes count from ``sent_at`` (epoch seconds, R125).

    ``refreshed``: the answer is to a refresh, which some services shape otherwise. ``retry_after`` and
    ``coding``: the fields Retry-After and Content-Encoding as they came.

    Raises:
        TokenFault: what it is instead; see ``faults``.
    """
    wait = wait_of(retry_after, sent_at)
    document: dict[str, Any] | None = None
    unreadable = ""
    try:
        document = read_document(content_type, unpack(body, coding))
    except UnreadableError as error:
        unreadable = str(error)
    fault = refusal(service, status, document)
    if fault is not None:
        fault.retry_after = wait
        raise fault
    if document is None:
        raise OutcomeUnknown(f"the answer of {service.title}'s token endpoint {unreadable}", retry_after=wait)
    return _grant(service, oauth_of(service), document, sent_at, refreshed=refreshed)


def _grant(
    service: Service, oauth: OAuth, document: dict[str, Any], sent_at: float, *, refreshed: bool
) -> Grant:
    def told(name: str) -> Any:
        return _told(oauth, document, name, refreshed=refreshed)

    access, refresh = _access_token(service, told("access_token")), _refresh_token(service, told)
    kind = told("token_type")
    if isinstance(kind, str) and kind.lower() in _PROOF_TYPES:
        raise ApplicationFault(
            f"{service.title} gave a token that needs a proof of possession with each call"
        )
    config, metadata, unfit = _values(service, document)
    return Grant(
        tokens=Tokens(
            access,
            refresh,
            expires_at=_end(told("expires_in"), sent_at, _assumed(oauth)),
            issued_at=sent_at,
            refresh_expires_at=_end(
                told("refresh_expires_in"), sent_at, None if refresh is None else oauth.refresh_lifetime_s
            ),
        ),
        scopes=_scopes(told("scope")),
        config=config,
        metadata=metadata,
        account=_name(told("account_name")),
        account_id=_name(told("account_id")),
        unfit=unfit,
    )


def _told(oauth: OAuth, document: dict[str, Any], name: str, *, refreshed: bool) -> Any:
    """What the answer has for one of our names: where the file says, else under its standard name."""
    if refreshed and name in oauth.refresh_answer:
        found = first_at(document, oauth.refresh_answer[name])
        if found is not None:
            return found
    if name in {"account_name", "account_id"} and name not in oauth.answer:
        return None
    return first_at(document, oauth.answer.get(name, name))


def _access_token(service: Service, value: Any) -> Secret:
    if not isinstance(value, str) or not value:
        raise OutcomeUnknown(f"the answer of {service.title}'s token endpoint has no usable access_token")
    token = Secret(value)
    fault = token_fault(token, service.auth.scheme)
    if fault is not None:
        raise OutcomeUnknown(f"the access_token that {service.title} gave cannot be used: {fault}")
    return token


def _refresh_token(service: Service, told: Any) -> Secret | None:
    value = told("refresh_token")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_TOKEN or _PRINTABLE.fullmatch(value) is None:
        raise OutcomeUnknown(f"the answer of {service.title}'s token endpoint has no usable refresh_token")
    return Secret(value)


# --- times --------------------------------------------------------------------------------------------


def _assumed(oauth: OAuth) -> int | None:
    return None if oauth.untold_expiry == "never" else oauth.access_lifetime_s


def _end(value: Any, sent_at: float, assumed: int | None) -> float | None:
    """When something with that lifetime ends; None for never, and when nobody knows.

    Zero and less tell nothing, as if the member were absent: a token that is over when it comes would be
    refreshed for ever.
    """
    seconds = _number(value)
    if seconds is None or seconds <= 0:
        return None if assumed is None else sent_at + assumed
    at = sent_at + seconds
    if seconds >= _EPOCH:
        at = seconds / 1000 if seconds >= _MILLISECONDS else seconds
    return at if sent_at < at <= sent_at + _LONGEST_S else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if _DIGITS.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def wait_of(retry_after: str, now: float) -> float | None:
    """Seconds that a ``Retry-After`` asks for (RFC 9110 §10.2.3), at most a day; None: it says nothing."""
    text = retry_after.strip()
    if _DIGITS.fullmatch(text):
        return min(float(text), _LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return min(max(at - now, 0.0), _LONGEST_WAIT_S)


# --- what else an answer tells ------------------------------------------------------------------------


def _scopes(value: Any) -> tuple[str, ...] | None:
    """Scopes from a string, whatever separates them, or from a list of strings; None when not told."""
    if isinstance(value, str):
        parts = re.split(r"[\s,]+", value)
    elif isinstance(value, list) and all(isinstance(one, str) for one in value):
        parts = value
    else:
        return None
    kept = [part for part in dict.fromkeys(parts) if part and _PRINTABLE.fullmatch(part)]
    return tuple(kept[:_MAX_SCOPES])


def _name(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        return None
    return value.strip()[:_LONGEST_NAME]


def _values(
    service: Service, document: dict[str, Any]
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Values whose source is the token answer, each in its form: config, metadata, names of unfit ones."""
    config: dict[str, str] = {}
    metadata: dict[str, str] = {}
    unfit: list[str] = []
    for param in service.params.values():
        value = first_at(document, _path(param)) if param.source.startswith(_TOKEN_SOURCE) else None
        if value is None or value == "":
            continue
        fit = fitting(param, str(value) if type(value) is int else value)
        if fit is None:
            unfit.append(param.name)
        else:
            (metadata if param.informational else config)[param.name] = fit
    return config, metadata, tuple(unfit)


def _path(param: Param) -> str:
    return param.source.removeprefix(_TOKEN_SOURCE)
