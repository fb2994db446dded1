"""Faults in the addresses of a file: hosts, origins with params in them, OAuth endpoints (R75-R81)."""

import ipaddress
import re
from collections.abc import Callable

from yarl import URL

from proxy.catalog.model import Host, Param, Service
from proxy.catalog.origin import PLACEHOLDER, parse_origin
from proxy.catalog.reader import nearest

Fail = Callable[[str, str], None]
AllowHttp = Callable[[str, int], bool]

_LABEL_WITH_PLACE = re.compile(
    r"[a-z0-9-]*(?:\{[a-z][a-z0-9_]*\})[a-z0-9-]*"
    r"|[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_WHOLE = re.compile(r"(?:https://)?\{[a-z][a-z0-9_]*\}")
_LEAKS = (
    "a/b", "a@b", "a:b", "a#b", "a?b", "a\\b", "a%2fb", "a b", "a\n", "a\r\nb", "", "a..b", "-a", "a-",
    "\u0430", "a\u3002b", "https://a",
)  # fmt: skip

_PATH_LEAKS = ("a/b", "a?b", "a#b", "a\\b", "a%2fb", "a b", "a\n", "..", "\u0430")


def check_hosts(service: Service, fail: Fail, allow_http: AllowHttp | None) -> None:
    """Faults of ``[[hosts]]``: names, conditions, origins."""
    seen: set[str] = set()
    for at, host in enumerate(service.hosts):
        if host.name in seen:
            fail(f"hosts[{at}].name", f'"{host.name}" is there twice')
        seen.add(host.name)
        for name, value in host.when.items():
            param = service.params.get(name)
            if param is None:
                fail(
                    f"hosts[{at}].when.{name}", f"is not a param of this file{nearest(name, service.params)}"
                )
            elif not _fits(param, value):
                fail(f"hosts[{at}].when.{name}", f"{value!r} does not match the param's pattern")
        _check_origin(service, host, f"hosts[{at}].origin", fail, allow_http)
    if service.hosts and not service.hosts[0].enabled:
        fail("hosts[0].enabled", "the first host is the default one and cannot be switched off")


def _fits(param: Param, value: str) -> bool:
    try:
        return re.fullmatch(param.pattern, value, re.ASCII) is not None
    except re.error:
        return True  # told where the pattern stands


def _check_origin(service: Service, host: Host, key: str, fail: Fail, allow_http: AllowHttp | None) -> None:
    text, template = host.origin.text, host.origin
    for name in template.params:
        param = service.params.get(name)
        if param is None:
            fail(key, f"{{{name}}} is not a param of this file{nearest(name, service.params)}")
        elif param.informational:
            fail(key, f"{{{name}}} is informational and cannot be part of an address")
    if template.is_fixed:
        if template.suffixes:
            fail(key.replace("origin", "suffixes"), "only a whole host or origin from a param has suffixes")
        _check_address(text, key, service, fail, allow_http)
        return
    if template.suffixes:
        if _WHOLE.fullmatch(text) is None:
            fail(key, f"with suffixes the param is the whole host or origin, not {text!r}")
        return
    scheme, _, authority = text.partition("://")
    if scheme != "https" or not authority:
        fail(key, f"must begin with https://, or be one param with suffixes, not {text!r}")
        return
    labels = authority.partition(":")[0].split(".")
    if len(labels) < 3 or "{" in "".join(labels[-2:]):  # noqa: PLR2004  # a param and a registrable domain
        fail(key, "a param stands left of a domain that is written out, such as {subdomain}.example.com")
    elif not all(_LABEL_WITH_PLACE.fullmatch(label) for label in labels):
        fail(key, f"a param fills whole labels of a host ({{name}} or {{name}}-my), not {text!r}")
    else:
        _check_leaks(service, host, fail)


def _check_leaks(service: Service, host: Host, fail: Fail) -> None:
    """A param inside a host must have a pattern that lets nothing else in (R76)."""
    for name in host.origin.params:
        param = service.params.get(name)
        for leak in _LEAKS if param is not None else ():
            if param is not None and _fits_strictly(param, leak):
                fail(f"params.{name}.pattern", f"lets {leak!r} into the host of {host.name}")
                break


def _fits_strictly(param: Param, value: str) -> bool:
    try:
        return re.fullmatch(param.pattern, value, re.ASCII) is not None
    except re.error:
        return False


def _check_address(text: str, key: str, service: Service, fail: Fail, allow_http: AllowHttp | None) -> None:
    """A fixed origin: well-formed, and http:// only where nobody listens in."""
    try:
        origin = parse_origin(text)
    except ValueError as error:
        fail(key, str(error))
        return
    if origin.scheme == "https":
        return
    if not service.user:
        fail(key, "shipped services are reached by https only")
    elif not is_loopback(origin.host) and not (allow_http and allow_http(origin.host, origin.port)):
        fail(key, f"http:// leads only to loopback or to [egress] allow_addresses, not to {origin.host}")


def is_loopback(host: str) -> bool:
    """True for localhost and the loopback addresses themselves."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(text: str, key: str, service: Service, fail: Fail, allow_http: AllowHttp | None) -> None:
    """An OAuth address obeys the rules of origins (R81): no value can turn it to another host or path."""
    if not text:
        return
    scheme, _, rest = text.partition("://")
    authority, _, path = rest.partition("/")
    _check_path_params(path, key, service, fail)
    if "{" in authority:
        if scheme != "https" or PLACEHOLDER.sub("", authority):
            fail(key, "a param is the whole host of an https:// address here, or stands in the path")
        elif not any(host.origin.suffixes and authority in host.origin.text for host in service.hosts):
            fail(key, f"{authority} must be the host of one of [[hosts]] with suffixes, which bind it")
        return
    if "#" in path or "@" in authority or not URL(text, encoded=True).is_absolute():
        fail(key, f"is not an address: {text!r}")
        return
    _check_address(f"{scheme}://{authority}", key, service, fail, allow_http)


def _check_path_params(path: str, key: str, service: Service, fail: Fail) -> None:
    for name in PLACEHOLDER.findall(path):
        param = service.params.get(name)
        leak = next((text for text in _PATH_LEAKS if param is not None and _fits_strictly(param, text)), None)
        if leak is not None:
            fail(key, f"the pattern of {name} lets {leak!r} into the path")


def is_guarded(address: str) -> bool:
    """Whether nobody on the way can read what is sent to a URL: https, or http to this machine."""
    scheme, _, rest = address.partition("://")
    try:
        origin = parse_origin(f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0]}".lower())
    except ValueError:
        return False
    return origin.scheme == "https" or is_loopback(origin.host)
