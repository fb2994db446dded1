"""Why a connection is not in use, and what mends it: one table for commands, pages, answers and notices."""

from dataclasses import dataclass

COPY = "copy"
OPERATOR = "operator"
DAMAGED = "sealed_tokens_damaged"
INVALID_GRANT = "invalid_grant"
INTERRUPTED = "refresh_interrupted"


@dataclass(frozen=True, slots=True)
class Cause:
    """``sentence`` follows the connection's address; ``remedy`` is a command with places for its parts."""

    sentence: str
    remedy: str


_CONNECT = "connector-proxy connect {service} --connection {name}"
CAUSES: dict[str, Cause] = {
    OPERATOR: Cause("was frozen by an operator", "connector-proxy connections freeze {address} --thaw"),
    COPY: Cause(
        "lies in a copy of the vault, where nothing is refreshed because that could end the original's "
        "access; its token serves until it expires",
        "connector-proxy vault adopt, once the original is out of use",
    ),
    DAMAGED: Cause("has stored tokens that do not open (damaged, or moved from another row)", _CONNECT),
    INVALID_GRANT: Cause("is refused by its provider: the access was revoked or has run out", _CONNECT),
    INTERRUPTED: Cause(
        "lost its refresh token: a refresh was cut off before its answer was stored, and the provider does "
        "not take the old token again",
        _CONNECT,
    ),
}
_OTHER = Cause("needs a person to connect it again", _CONNECT)


def cause_of(code: str | None) -> Cause:
    """The cause of that code; for one that is not known here, to connect again."""
    return CAUSES.get(code or "", _OTHER)


def remedy_of(code: str | None, service: str, name: str) -> str:
    """The command that mends it."""
    return cause_of(code).remedy.format(address=f"{service}@{name}", service=service, name=name)
