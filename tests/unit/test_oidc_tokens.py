"""ID tokens: what proves somebody, and every way in which one does not (OpenID Connect Core §3.1.3.7, RFC 8725)."""

from collections.abc import Mapping
from typing import Any

import pytest
from support.providers.identity import (
    CLIENT_ID,
    CLIENT_SECRET,
    Identity,
    Sign,
    hashed,
    key,
    public_jwk,
    public_pem,
    signed,
    unsigned,
)

from proxy.control.oidc.identity import LEEWAY_S, Proof, UnknownKeyError, verified_claims
from proxy.control.oidc.refusals import SignInRefused
from proxy.secret import Secret

ISSUER, NONCE = "https://id.example/realm", "nonce-1"
NOW = 1_800_000_000.0
PROOF = Proof(ISSUER, CLIENT_ID, Secret(NONCE))
LISTED = [public_jwk("rsa"), public_jwk("ec"), public_jwk("ed25519")]
CLAIMS: Mapping[str, Any] = {
    "iss": ISSUER,
    "sub": "subject-1",
    "aud": CLIENT_ID,
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": NONCE,
}


def judged(sign: Sign, keys: list[dict[str, Any]] | None = None, now: float = NOW) -> Mapping[str, Any]:
    token = Secret(sign(Identity(), dict(CLAIMS)))
    return verified_claims(token, LISTED if keys is None else keys, PROOF, now)


@pytest.mark.parametrize(
    ("sign", "keys"),
    [
        (signed("rsa"), None),
        (signed("rsa", "PS256"), None),
        (signed("ec"), None),
        (signed("ed25519"), None),
        (signed("rsa", kid=None), None),
        (signed("rsa"), [public_jwk("rsa", alg="RS256", key_ops=["verify"])]),
        (signed("rsa"), [{**public_jwk("rsa"), "use": "enc", "kid": "other"}, public_jwk("rsa")]),
        (signed("rsa", claims={"aud": [CLIENT_ID]}), None),
        (signed("rsa", claims={"aud": [CLIENT_ID, "other"], "azp": CLIENT_ID}), None),
        (signed("rsa", claims={"azp": CLIENT_ID, "nbf": NOW, "exp": NOW + 0.5}), None),
        (signed("rsa", claims={"exp": NOW - LEEWAY_S + 1, "iat": NOW + LEEWAY_S - 1}), None),
    ],
)
def test_what_proves_somebody(sign: Sign, keys: list[dict[str, Any]] | None) -> None:
    """RS256, PS256, ES256 and EdDSA hold; so do clocks a little apart, several audiences that name us, and one key that needs no name."""
    assert judged(sign, keys)["sub"] == "subject-1"


@pytest.mark.parametrize(
    "sign",
    [
        lambda _, claims: unsigned(claims),
        lambda _, claims: unsigned(claims, "None"),
        lambda _, claims: unsigned(claims, "RS256"),
        lambda _, claims: hashed(public_pem(), claims, kid="rsa"),
        lambda _, claims: hashed(CLIENT_SECRET.encode(), claims),
        lambda *_: "a.b.c",
        lambda *_: "",
        lambda *_: "a" * 70_000,
        signed("rsa", alg=["RS256"]),
        signed("rsa", alg=""),
        signed("rsa", "RS384"),
        signed("rsa", crit=["exp"], exp=1),
        signed("rsa-other", kid="rsa"),
        signed("ec", kid="rsa", alg="RS256"),
    ],
)
def test_what_is_signed_by_nobody_who_counts(sign: Sign) -> None:
    """No algorithm but the four counts: not `none` in any spelling, no shared secret, though the public key be it; nor another key under a known name."""
    with pytest.raises(SignInRefused) as caught:
        judged(sign)
    assert caught.value.reason == "token_invalid"


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://id.example/other"},
        {"iss": f"{ISSUER}/"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": [CLIENT_ID, "other"]},
        {"aud": [CLIENT_ID, "other"], "azp": "other"},
        {"aud": []},
        {"aud": {"a": CLIENT_ID}},
        {"aud": None},
        {"azp": "other"},
        {"azp": ""},
        {"nonce": "nonce-2"},
        {"nonce": ""},
        {"nonce": 1},
        {"nonce": None},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"sub": "s" * 256},
        {"exp": None},
        {"iat": None},
        {"exp": "tomorrow"},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 1e300},
        {"exp": True},
        {"iat": -1},
        {"nbf": "now"},
    ],
    ids=str,
)
def test_what_was_said_to_or_of_somebody_else(changed: dict[str, Any]) -> None:
    """A well-signed token of another issuer, for another app, of another attempt, or without what it has to say proves nobody."""
    with pytest.raises(SignInRefused) as caught:
        judged(signed("rsa", claims=changed))
    assert caught.value.reason == "token_invalid"


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": NOW - LEEWAY_S},
        {"exp": NOW - 9000, "iat": NOW - 9300},
        {"iat": NOW + LEEWAY_S + 1},
        {"nbf": NOW + LEEWAY_S + 1},
    ],
    ids=str,
)
def test_clocks_that_do_not_agree(changed: dict[str, Any]) -> None:
    """A token that has run out, or is of the future, is told as what it is: a wrong clock."""
    with pytest.raises(SignInRefused) as caught:
        judged(signed("rsa", claims=changed))
    assert caught.value.reason == "clock"


@pytest.mark.parametrize(
    ("sign", "keys"),
    [
        (signed("rsa", kid="rsa-2"), None),
        (signed("rsa"), []),
        (signed("rsa"), [{**public_jwk("rsa"), "use": "enc"}]),
        (signed("rsa"), [public_jwk("rsa", alg="PS256")]),
        (signed("rsa"), [public_jwk("rsa", key_ops=["sign"])]),
        (signed("rsa"), [{"kty": "oct", "kid": "rsa", "k": "c2VjcmV0"}]),
        (signed("ec"), [{**public_jwk("ec"), "crv": "P-384"}]),
    ],
)
def test_keys_that_are_not_there(sign: Sign, keys: list[dict[str, Any]] | None) -> None:
    """A key counts only under its name, for signatures, and for its own algorithm: else the token's is one that is not known (yet)."""
    with pytest.raises(UnknownKeyError):
        judged(sign, keys)


@pytest.mark.parametrize(
    ("sign", "keys"),
    [
        (signed("rsa", kid=None), [public_jwk("rsa"), public_jwk("rsa-other")]),
        (signed("short"), [public_jwk("short")]),
        (signed("rsa"), [{"kty": "RSA", "kid": "rsa"}]),
        (signed("rsa"), [{**public_jwk("rsa"), "n": "!"}]),
        (signed("ec"), [{**public_jwk("ec"), "x": public_jwk("ec")["y"]}]),
    ],
)
def test_keys_that_are_no_good(sign: Sign, keys: list[dict[str, Any]]) -> None:
    """A choice of keys without a name, a short RSA key, or one that cannot be read refuses the token."""
    with pytest.raises(SignInRefused) as caught:
        judged(sign, keys)
    assert caught.value.reason == "token_invalid"


def test_a_private_key_that_a_provider_lists_by_mistake() -> None:
    """Only the public part of a listed key is used."""
    private = {**public_jwk("rsa"), "d": "AQAB", "p": "AQAB"}
    assert judged(signed("rsa"), [private])["sub"] == "subject-1"
    assert key("rsa").key_size == 2048


def test_reasons_tell_no_claim() -> None:
    """What is logged of a refused token is none of its content."""
    for sign in (signed("rsa", claims={"iss": "canary"}), signed("rsa", claims={"nonce": "canary"})):
        with pytest.raises(SignInRefused) as caught:
            judged(sign)
        assert "canary" not in f"{caught.value} {caught.value.why} {caught.value.detail}"
