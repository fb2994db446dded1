"""The one origin of redirect addresses and cookies: browsers that come by another are sent there."""

from aiohttp import hdrs, web
from yarl import URL

_DEFAULT_PORTS = {"http": 80, "https": 443}


def elsewhere(request: web.Request, public_url: str) -> str | None:
    """Where the browser has to go instead; None when it is where it should be.

    Raises:
        WrongOriginError: it was sent on before and came by another name again, or sends a form.
    """
    public, here = URL(public_url), request.headers.get(hdrs.HOST, "")
    if _authority(public.scheme, here) == (public.host, public.port):
        return None
    if "moved" in request.query or request.method != hdrs.METH_GET:
        raise WrongOriginError(
            f"The settings say that browsers reach this at {public}, and this request names the host "
            f"{here}. A proxy in between has to pass the Host header on; or set control.public_url."
        )
    return str(public.join(request.rel_url).update_query({"moved": "1"}))


class WrongOriginError(Exception):
    """Its text is for the person."""

    heading = "This is not where browsers should come"


def _authority(scheme: str, given: str) -> tuple[str | None, int | None]:
    try:
        url = URL(f"{scheme}://{given}")
    except ValueError:
        return None, None
    return url.host, url.port or _DEFAULT_PORTS.get(scheme)
