"""Values from outside, checked before they become part of a credential: tokens, names, connection_config."""

import re
from collections.abc import Mapping

from proxy.catalog.model import Scheme, Service
from proxy.catalog.params import check_config
from proxy.errors import ConfigurationError, ConnectionConfigMissing, CredentialInvalid, Fault
from proxy.secret import Secret

MAX_TOKEN = 65536  # bytes; more cannot be sent in any header we know a service to take
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
_SPACED = re.compile(r"[ -~]+", re.ASCII)


def check_name(name: str) -> str:
    """A connection's name: it stands in addresses after ``@`` and in permits.

    Raises:
        ConfigurationError: other characters than letters, digits and ``_ . -``, or over 63 of them.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            Fault(
                "connection",
                "a name has up to 63 letters, digits, '_', '.', '-', and begins with a letter or digit",
            )
        )
    return name


def token_fault(token: Secret, scheme: Scheme) -> str | None:
    """What makes a token unusable in a header (RFC 6749 appendix A.12, RFC 9110 §5.5), or None.

    ``basic`` takes ``user:password``, which is sent encoded and may hold spaces and other letters.
    """
    text = token.reveal()
    if not text:
        return "the token is empty"
    if len(text.encode("utf-8", "replace")) > MAX_TOKEN:
        return f"the token is over {MAX_TOKEN} bytes"
    if scheme == "basic":
        if ":" not in text:
            return "with the scheme 'basic' the token is 'user:password'"
        return "the token holds control characters" if any(c < " " or c == "\x7f" for c in text) else None
    if scheme == "raw":
        return (
            None
            if _SPACED.fullmatch(text) and text == text.strip()
            else "the token holds characters no header can"
        )
    return None if _VISIBLE.fullmatch(text) else "the token holds spaces or characters that no header can"


def usable_config(service: Service, given: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """``connection_config`` from a remote source, checked at use; values that no address needs are dropped.

    Raises:
        ConnectionConfigMissing: a required value is not there.
        CredentialInvalid: a value does not have its form.
    """
    spellings = {name for param in service.params.values() for name in (param.name, *param.aliases)}
    present = {name: value for name, value in (given or {}).items() if name in spellings}
    missing = [
        param.name
        for param in service.params.values()
        if param.required and not any(present.get(name) for name in (param.name, *param.aliases))
    ]
    if missing:
        raise ConnectionConfigMissing(
            f"the connection of {service.title} lacks {', '.join(missing)} in its connection_config",
            service=service.type_id,
        )
    try:
        config, _ = check_config(service, present)
    except ConfigurationError as error:
        places = ", ".join(sorted({fault.place for fault in error.faults}))
        raise CredentialInvalid(
            f"the connection_config of {service.title} cannot be used: {places}", service=service.type_id
        ) from None
    return config
