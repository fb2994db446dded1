"""An ID token's proof (OpenID Connect Core §3.1.3.7), and whom it names. Pure; the time is a parameter.

PyJWT checks signature, issuer and audience. Which key and algorithm may be used at all, times, nonce and
``azp`` are checked here.
"""

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from proxy.control.oidc.metadata import ALGORITHMS
from proxy.control.oidc.refusals import SignInRefused
from proxy.secret import Secret

LEEWAY_S = 60.0
_PUBLIC = ("kty", "crv", "n", "e", "x", "y")
_MAX_TOKEN = 64 * 1024
_LAST_MOMENT = 2**40
_MAX_SUBJECT = 255  # OpenID Connect Core §2


class UnknownKeyError(Exception):
    """None of the provider's keys is the one that the token names: it may have a new one."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a token has to fit."""

    issuer: str
    client_id: str
    nonce: Secret


def verified_claims(
    token: Secret, keys: Sequence[Mapping[str, Any]], proof: Proof, now: float
) -> Mapping[str, Any]:
    """The claims of an ID token that holds, ``sub`` among them.

    Args:
        token: as the token endpoint gave it.
        keys: members of the provider's JWK set, unchecked.
        proof: what it has to fit.
        now: epoch seconds.

    Raises:
        UnknownKeyError: it is signed with a key that is not among ``keys``.
        SignInRefused: it does not hold.
    """
    text = token.reveal()
    if len(text) > _MAX_TOKEN:
        raise _invalid("it is too long")
    try:
        header = jwt.get_unverified_header(text)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _invalid(f"its algorithm is none of {', '.join(ALGORITHMS)}")
        claims = jwt.decode(
            text,
            key=_key(keys, algorithm, header.get("kid")),
            algorithms=[algorithm],
            audience=proof.client_id,
            issuer=proof.issuer,
            options={
                "require": ["iss", "sub", "aud", "exp", "iat", "nonce"],
                "verify_exp": False,  # below, by our clock
                "verify_iat": False,
                "verify_nbf": False,
                "enforce_minimum_key_length": True,
            },
        )
    except jwt.PyJWTError as error:  # its text may hold claims
        raise _invalid(type(error).__name__) from None
    _check(claims, proof)
    _check_times(claims, now)
    return claims


def _key(keys: Sequence[Mapping[str, Any]], algorithm: str, key_id: object) -> jwt.PyJWK:
    """The one key that the token can be signed with; without ``kid`` there must be no choice (§10.1)."""
    fitting = list(_fitting(keys, algorithm))
    named = fitting if key_id is None else [one for one in fitting if one.get("kid") == key_id]
    if not named:
        raise UnknownKeyError
    if len(named) > 1:
        raise _invalid("several keys fit it")
    return jwt.PyJWK({name: named[0][name] for name in _PUBLIC if name in named[0]}, algorithm)


def _fitting(keys: Sequence[Mapping[str, Any]], algorithm: str) -> Iterator[Mapping[str, Any]]:
    wanted = ALGORITHMS[algorithm]
    for key in keys:
        operations = key.get("key_ops")
        if (
            all(key.get(name) == value for name, value in wanted.items())
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
            and (operations is None or (isinstance(operations, list) and "verify" in operations))
        ):
            yield key


def _check(claims: Mapping[str, Any], proof: Proof) -> None:
    audience, party = claims["aud"], claims.get("azp")
    if party is not None and party != proof.client_id:
        raise _invalid("it was issued to another app (azp)")
    if isinstance(audience, list) and len(audience) > 1 and party is None:
        raise _invalid("it is for several apps and names none that it was issued to (azp)")
    nonce = claims["nonce"]
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), proof.nonce.reveal().encode()):
        raise _invalid("its nonce is not of this attempt")
    if not 0 < len(claims["sub"]) <= _MAX_SUBJECT:
        raise _invalid("its subject is empty or too long")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """With a leeway, for clocks that differ a little."""
    moments = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if not all(_is_moment(one) for one in moments.values()):
        raise _invalid("one of its times is no time")
    over, early = now - moments["exp"], max(moments["iat"], moments.get("nbf", 0)) - now
    if over >= LEEWAY_S:
        raise SignInRefused("clock", f"It ran out {over:.0f} s ago.", why="the token has run out")
    if early > LEEWAY_S:
        raise SignInRefused("clock", f"It begins in {early:.0f} s.", why="the token is of the future")


def _is_moment(value: object) -> bool:
    """Whether it is seconds since the epoch; JSON as Python reads it has NaN and infinity too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LAST_MOMENT


def _invalid(why: str) -> SignInRefused:
    return SignInRefused("token_invalid", why=why)
