"""Faults of ``[oauth]``: what would make a service impossible to connect, or a flow of it unsafe."""

from collections.abc import Iterator, Mapping

from proxy.catalog.addresses import AllowHttp, Fail, check_endpoint
from proxy.catalog.grants import OAuth
from proxy.catalog.model import Service
from proxy.catalog.origin import PLACEHOLDER
from proxy.catalog.reader import nearest

_APP = frozenset({"client_id"})
_ASKING = _APP | {"scope"}
_AUTHORIZING = _ASKING | {"redirect_uri", "state"}
_OURS_AUTHORIZING = frozenset(
    {"response_type", "redirect_uri", "state", "code_challenge", "code_challenge_method"}
)
_OURS_ASKING = frozenset({"code", "code_verifier", "refresh_token", "client_secret"})
_TOO_EARLY: Mapping[str, frozenset[str]] = {
    "user": frozenset(),
    "callback": frozenset({"authorization"}),
    "token": frozenset({"authorization", "token"}),
    "call": frozenset({"authorization", "token"}),
}
"""Source of a param -> the requests that are made before it is known."""


def check_oauth(service: Service, fail: Fail, allow_http: AllowHttp | None) -> None:
    """Notes every fault of the table, if there is one."""
    oauth = service.oauth
    if oauth is None:
        return
    for key, text, flow in _texts(oauth):
        _check_places(service, f"oauth.{key}", text, flow, fail)
    for key in ("authorization_url", "token_url", "refresh_url", "revoke_url", "introspect_url"):
        check_endpoint(getattr(oauth, key), f"oauth.{key}", service, fail, allow_http)
    _check_grant(oauth, fail)
    _check_own_params(oauth, fail)


def _texts(oauth: OAuth) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Every text with places, its key, and the values of the flow that are known when it is filled."""
    exchanged = {"redirect_uri"} if oauth.grant == "authorization_code" else set()
    yield "authorization_url", oauth.authorization_url, _AUTHORIZING
    yield "token_url", oauth.token_url, _ASKING
    yield "refresh_url", oauth.refresh_url, _ASKING
    yield "revoke_url", oauth.revoke_url, _APP
    yield "introspect_url", oauth.introspect_url, _APP
    groups: tuple[tuple[str, Mapping[str, str], frozenset[str]], ...] = (
        ("authorization_params", oauth.authorization_params, _AUTHORIZING),
        ("token_params", oauth.token_params, _ASKING | exchanged),
        ("refresh_params", oauth.refresh_params, _ASKING),
    )
    for group, pairs, flow in groups:
        for name, text in pairs.items():
            yield f"{group}.{name}", text, flow


def _check_places(service: Service, key: str, text: str, flow: frozenset[str], fail: Fail) -> None:
    stage = key.removeprefix("oauth.").partition("_")[0]
    for name in PLACEHOLDER.findall(text):
        param = service.params.get(name)
        if param is None and name not in flow:
            fail(key, f"{{{name}}} is not a param of this file{nearest(name, [*service.params, *flow])}")
        elif (
            param is not None
            and param.default is None
            and stage in _TOO_EARLY[param.source.partition(":")[0]]
        ):
            fail(key, f"{{{name}}} is told by the provider, but needed before it can be: give it a default")


def _check_grant(oauth: OAuth, fail: Fail) -> None:
    if oauth.grant == "client_credentials":
        if oauth.refresh not in {"remint", "none"}:
            fail("oauth.refresh", "is remint or none with client_credentials, which give no refresh token")
        told = {name for text in oauth.authorization_params.values() for name in PLACEHOLDER.findall(text)}
        told |= set(PLACEHOLDER.findall(oauth.authorization_url))
        if oauth.authorization_url and not {"state", "redirect_uri"} <= told:
            fail("oauth.authorization_params", "must hold {state} and {redirect_uri}: the flow ends by them")
    elif oauth.refresh == "remint":
        fail("oauth.refresh", "remint is for client_credentials: a new token is bought, none is refreshed")
    elif oauth.client_auth == "none" and oauth.pkce == "off":
        fail(
            "oauth.pkce", "a client without a secret needs it: nothing else binds the code (RFC 9700 §2.1.1)"
        )


def _check_own_params(oauth: OAuth, fail: Fail) -> None:
    """Params that a file may not set, because the flow's safety hangs on them."""
    if oauth.grant == "authorization_code":
        for name in sorted(_OURS_AUTHORIZING & oauth.authorization_params.keys()):
            fail(f"oauth.authorization_params.{name}", "is set by the flow itself")
    for group, pairs in (("token_params", oauth.token_params), ("refresh_params", oauth.refresh_params)):
        for name in sorted(_OURS_ASKING & pairs.keys()):
            fail(f"oauth.{group}.{name}", "is set by the flow itself")
