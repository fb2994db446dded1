"""What concerns several values of a file at once: names that must exist, paths that must fit."""

import json
import re

from proxy.catalog.addresses import AllowHttp, Fail, check_hosts
from proxy.catalog.model import Rule, Service
from proxy.catalog.oauth_checks import check_oauth
from proxy.catalog.reader import nearest

_NOT_OURS = frozenset(
    [
        "authorization",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "proxy-authorization",
        "cookie",
        "expect",
    ]
)


def check(service: Service, fail: Fail, *, allow_http: AllowHttp | None = None) -> None:
    """Notes every fault between the parts of one decoded service.

    Args:
        service: as ``decode`` made it, sound or not.
        fail: called with the dotted key and what is wrong.
        allow_http: which host and port, besides loopback, ``http://`` may name in a user's file.
    """
    _check_params(service, fail)
    check_hosts(service, fail, allow_http)
    _check_paths(service, fail)
    _check_rules(service, fail)
    _check_read_only(service, fail)
    _check_auth(service, fail)
    _check_provider(service, fail, allow_http)


def _check_params(service: Service, fail: Fail) -> None:
    taken: dict[str, str] = {}
    for name, param in service.params.items():
        key = f"params.{name}"
        for spelling in (name, *param.aliases):
            if spelling in taken:
                fail(f"{key}.aliases", f'"{spelling}" already means {taken[spelling]}')
            taken[spelling] = name
        if param.required and param.default is not None:
            fail(f"{key}.required", "a value with a default is never missing: take one of the two away")
        try:
            form = re.compile(param.pattern, re.ASCII)
        except re.error as error:
            fail(f"{key}.pattern", f"is not a regular expression: {error}")
            continue
        for which, value in (("example", param.example), ("default", param.default)):
            if value and form.fullmatch(value.lower() if param.lower else value) is None:
                fail(f"{key}.{which}", f"{value!r} does not match the pattern")


def _check_paths(service: Service, fail: Fail) -> None:
    if service.base_path.endswith("/"):
        fail("base_path", "has no slash at its end")
    if service.base_path and not service.is_under_root(service.base_path.encode()):
        fail("roots", f"base_path {service.base_path} lies under none of them")
    for at, host in enumerate(service.hosts):
        if host.base_path.endswith("/"):
            fail(f"hosts[{at}].base_path", "has no slash at its end")
        base = (host.base_path or (service.base_path if at == 0 else "")) + "/"
        if (
            base != "/"
            and host.prefixes
            and not base.startswith(host.prefixes)
            and base[:-1] not in host.prefixes
        ):
            fail(f"hosts[{at}].prefixes", f"base_path {base} lies under none of them")
    for path in sorted(service.batch.paths) if service.batch is not None else ():
        if not service.batch_paths.matches(path):
            fail("batch.paths", f"{path.decode()} is under none of batch_paths")
    for path in sorted(service.credential_paths.exempt):
        if not any(
            re.fullmatch(_rough(text), path.decode(), re.ASCII | re.IGNORECASE)
            for text in service.credential_paths.patterns
        ):
            fail("credential_exempt", f"{path.decode()} is under none of credential_paths")


def _rough(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")


def _check_rules(service: Service, fail: Fail) -> None:
    for at, rule in enumerate(service.rules):
        known = [host.name for host in service.hosts]
        if rule.host not in known:
            fail(f"rules[{at}].host", f'"{rule.host}" is not a host of this file{nearest(rule.host, known)}')
        elif service.host(rule.host) is None:
            fail(f"rules[{at}].host", f'"{rule.host}" is switched off, and a rule cannot lead there')
        _check_rewriting(rule, f"rules[{at}]", fail)


def _check_read_only(service: Service, fail: Fail) -> None:
    for at, entry in enumerate(service.read_only):
        known = [host.name for host in service.hosts]
        if entry.host and entry.host not in known:
            fail(
                f"read_only[{at}].host",
                f'"{entry.host}" is not a host of this file{nearest(entry.host, known)}',
            )
        if "**" in entry.path.text.removesuffix("**"):
            fail(f"read_only[{at}].path", "has ** at its end only: an allow-list is to be read at a glance")


def _check_rewriting(rule: Rule, key: str, fail: Fail) -> None:
    if rule.prepend.endswith("/") or rule.strip.endswith("/"):
        fail(key, "strip and prepend have no slash at their ends")
    if rule.strip and "*" in rule.strip:
        fail(f"{key}.strip", "is a plain prefix, no pattern")
    rest = rule.path.text.removeprefix(rule.strip)
    if rule.strip and (rest == rule.path.text or rest[:1] not in {"", "/"}):
        fail(f"{key}.strip", f"{rule.path.text} does not begin with the segments of {rule.strip}")


def _check_auth(service: Service, fail: Fail) -> None:
    for at, host in enumerate(service.hosts):
        if host.auth is not None and host.token == "none":  # noqa: S105  # a choice, not a token
            fail(f"hosts[{at}].auth", "makes no sense on a host without token")
    for key, auth in [
        ("auth", service.auth),
        *((f"hosts[{n}].auth", h.auth) for n, h in enumerate(service.hosts)),
    ]:
        if auth is None:
            continue
        own_field = auth.header.lower() != "authorization"
        if (auth.scheme == "header") != own_field:
            fail(f"{key}.header", "scheme header has a field of its own, the other schemes use Authorization")
        if own_field and auth.header.lower() in _NOT_OURS:
            fail(f"{key}.header", f"{auth.header} is a field of the connection, not of the token")
    for name, value in service.headers:
        if name.lower() in _NOT_OURS:
            fail(f"headers.{name}", "is set by the proxy itself")
        if not value.isascii() or not value.isprintable() or value != value.strip() or not value:
            fail(f"headers.{name}", "must be printable ASCII without spaces around it")
    for at, place in enumerate(service.key_places):
        if place.where == "header" and place.name.lower() in _NOT_OURS:
            fail(f"key_places[{at}].name", f"{place.name} is looked at for every service")


def _check_provider(service: Service, fail: Fail, allow_http: AllowHttp | None) -> None:
    if service.verify is not None and service.verify.host and service.host(service.verify.host) is None:
        known = [host.name for host in service.hosts if host.enabled]
        fail(
            "verify.host",
            f'"{service.verify.host}" is not a host of this file{nearest(service.verify.host, known)}',
        )
    if service.errors is not None:
        filled = service.errors.template.replace("{status}", "400")
        try:
            json.loads(filled)
        except ValueError:
            fail("errors.template", "is not JSON once its places are filled in")
        if "{message}" not in service.errors.template and "{code}" not in service.errors.template:
            fail("errors.template", "tells the caller nothing: {code} or {message} must be in it")
    check_oauth(service, fail, allow_http)
