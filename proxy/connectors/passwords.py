"""The operator's password: made by us, kept as a scrypt digest (RFC 7914). Pure, and slow on purpose."""

import base64
import hashlib
import hmac
import secrets

from proxy.secret import Secret

_N, _R, _P, _BYTES = 2**15, 8, 1, 32  # 32 MiB and some 80 ms a guess
_MEMORY = 64 * 1024 * 1024
_MAX_PASSWORD = 1024


def new_password() -> Secret:
    """100 random bits in five groups, to be typed from a screen."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return Secret("-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(5)))


def hashed(password: Secret) -> str:
    """What is stored of a password; every call gives another text."""
    salt = secrets.token_bytes(16)
    return "$".join(
        ("scrypt", str(_N), str(_R), str(_P), _text(salt), _text(_derive(password, salt, _N, _R, _P)))
    )


def is_right(password: Secret, stored: str) -> bool:
    """True when a stored text was made of this password; False too for a text in no known form."""
    if len(password.reveal()) > _MAX_PASSWORD:
        return False
    try:
        kind, n, r, p, salt, wanted = stored.split("$")
        found = _derive(password, base64.b64decode(salt), int(n), int(r), int(p))
        return kind == "scrypt" and hmac.compare_digest(found, base64.b64decode(wanted))
    except ValueError:
        return False


def _derive(password: Secret, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.reveal().encode("utf-8", "surrogatepass"),
        salt=salt,
        n=n,
        r=r,
        p=p,
        maxmem=_MEMORY,
        dklen=_BYTES,
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
