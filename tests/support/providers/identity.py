"""An identity provider that proves, lies and fails as it is told to: OpenID Connect over a loopback socket.

It signs ID tokens with keys of its own, so a test can have any claim, header, key or algorithm; whoever comes to its
authorization endpoint is sent back at once. It lives on the loop of the test.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

CLIENT_ID = "sign-in client"  # a space: the header's encoding is not that of the form
CLIENT_SECRET = "canaryOIDCSECRET" + "z9y8x7"
SUBJECT = "subject-1"
Claims = dict[str, Any]
Sign = Callable[["Identity", Claims], str]


@cache
def key(name: str) -> Any:
    """The private key of that name, made once a process: its first letters say of what kind."""
    if name.startswith("short"):
        return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # to be refused
    if name.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        ed25519.Ed25519PrivateKey.generate()
        if name.startswith("ed")
        else ec.generate_private_key(ec.SECP256R1())
    )


def algorithm_of(name: str) -> str:
    return {"rsa": "RS256", "sho": "RS256", "ed2": "EdDSA"}.get(name[:3], "ES256")


def public_jwk(name: str, **more: Any) -> dict[str, Any]:
    """As a JWK set lists it."""
    made = get_default_algorithms()[algorithm_of(name)].to_jwk(key(name).public_key(), as_dict=True)
    return {"use": "sig", **made, "kid": name, **more}


def signed(
    name: str = "rsa", algorithm: str | None = None, *, claims: Mapping[str, Any] | None = None, **header: Any
) -> Sign:
    """Signs with that key; ``claims`` and ``header`` change what stands in it, None takes a member out."""

    def sign(_: "Identity", given: Claims) -> str:
        told = {n: v for n, v in {**given, **(claims or {})}.items() if v is not None}
        head = {n: v for n, v in {"kid": name, **header}.items() if v is not None}
        return _encode(
            told,
            lambda data: _signature(name, algorithm or algorithm_of(name), data),
            algorithm or algorithm_of(name),
            head,
        )

    return sign


def unsigned(claims: Claims, algorithm: str = "none") -> str:
    """A token with an empty signature."""
    return _encode(claims, lambda _: b"", algorithm, {})


def hashed(secret: bytes, claims: Claims, **header: Any) -> str:
    """A token "signed" with a shared secret, such as a public key that everybody knows."""
    return _encode(claims, lambda data: hmac.digest(secret, data, "sha256"), "HS256", header)


def public_pem(name: str = "rsa") -> bytes:
    return (
        key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _signature(name: str, algorithm: str, data: bytes) -> bytes:
    return get_default_algorithms()[algorithm].sign(data, key(name))


def _encode(claims: Claims, sign: Callable[[bytes], bytes], algorithm: str, header: Mapping[str, Any]) -> str:
    """By hand: PyJWT refuses to make most of what is wanted here."""
    head = {"alg": algorithm, **header}
    parts = [_text(json.dumps(one).encode()) for one in (head, claims)]
    return ".".join((*parts, _text(sign(".".join(parts).encode()))))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(slots=True, eq=False)
class Identity:
    """The provider; ``async with identity_provider() as one:``.

    ``sign``: makes the ID token of the claims. ``person``: claims about who signs in. ``keys``: names of those that
    it lists, or whole JWKs. ``metadata``: changes its discovery document (None takes a member out). ``answer``: what
    the token endpoint says instead of tokens. ``back``: changes the parameters of the redirect. ``thin``: the
    person's claims are told by the userinfo endpoint only. ``public``: our app has no secret there.
    """

    port: int = 0
    sign: Sign = field(default_factory=signed)
    person: Claims = field(default_factory=dict)
    keys: list[str | dict[str, Any]] = field(default_factory=lambda: ["rsa", "ec", "ed25519"])
    metadata: Claims = field(default_factory=dict)
    answer: tuple[int, bytes] | None = None
    back: dict[str, str | None] = field(default_factory=dict)
    thin: bool = False
    public: bool = False
    userinfo: Claims = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/realm"

    def reset(self, **person: Any) -> None:
        """As new, with that person: by default ``ada@example.com``, verified."""
        self.sign, self.keys, self.answer, self.thin = signed(), ["rsa", "ec", "ed25519"], None, False
        self.metadata, self.back, self.userinfo = {}, {}, {}
        self.person = {"sub": SUBJECT, "email": "ada@example.com", "email_verified": True, **person}
        for one in (self.asked, self.paths, self.secrets):
            one.clear()

    def claims(self, nonce: str) -> Claims:
        """Those of a good ID token."""
        now = int(time.time())
        person = {"sub": self.person["sub"]} if self.thin else self.person
        base = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce}
        return {name: value for name, value in {**base, **person}.items() if value is not None}

    async def handle(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        match request.path:
            case "/realm/.well-known/openid-configuration":
                return web.json_response(self._document())
            case "/realm/keys":
                listed = [public_jwk(one) if isinstance(one, str) else one for one in self.keys]
                return web.json_response({"keys": listed})
            case "/realm/authorize":
                return self._authorize(dict(request.query))
            case "/realm/token":
                return self._token(request, dict(await request.post()))  # type: ignore[arg-type]  # texts only
            case "/realm/userinfo":
                known = request.headers.get("Authorization", "") == f"Bearer {self.secrets[-1]}"
                return web.json_response(
                    {**self.person, **self.userinfo} if known else {}, status=200 if known else 401
                )
            case _:
                return web.Response(status=404)

    def _document(self) -> Claims:
        base = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?tenant=one",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256", "none", "HS256"],
        }
        return {name: value for name, value in {**base, **self.metadata}.items() if value is not None}

    def _authorize(self, query: dict[str, str]) -> web.Response:
        self.asked.append(query)
        code = f"canaryCODE{secrets.token_hex(8)}"
        self.secrets.append(code)
        self._codes[code] = query
        told = {"code": code, "state": query["state"], **self.back}
        params = urllib.parse.urlencode({name: value for name, value in told.items() if value is not None})
        return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}?{params}"})

    def _token(self, request: web.Request, form: dict[str, str]) -> web.Response:
        if self.answer is not None:
            status, body = self.answer
            return web.Response(status=status, body=body, content_type="application/json")
        asked = self._codes.pop(form.get("code", ""), None)
        verifier = form.get("code_verifier", "")
        challenge = _text(hashlib.sha256(verifier.encode()).digest())
        if (
            asked is None
            or challenge != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        if not self._knows(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        id_token, access_token = (
            self.sign(self, self.claims(asked["nonce"])),
            f"canaryACCESS{secrets.token_hex(8)}",
        )
        self.secrets += [verifier, *([id_token] if id_token else []), access_token]
        return web.json_response({"id_token": id_token, "access_token": access_token, "token_type": "Bearer"})

    def _knows(self, request: web.Request, form: Mapping[str, str]) -> bool:
        """By HTTP Basic, by the form where only that is offered, or by its name where it has no secret."""
        if self.public:
            return form.get("client_id") == CLIENT_ID and "client_secret" not in form
        if self.metadata.get("token_endpoint_auth_methods_supported") == ["client_secret_post"]:
            return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        pair = f"{urllib.parse.quote_plus(CLIENT_ID)}:{CLIENT_SECRET}"
        return request.headers.get("Authorization") == "Basic " + base64.b64encode(pair.encode()).decode()


@contextlib.asynccontextmanager
async def identity_provider() -> AsyncIterator[Identity]:
    """Listens inside the block."""
    one = Identity()
    runner = web.ServerRunner(web.Server(one.handle, access_log=None))  # type: ignore[arg-type]  # BaseRequest: all that is used
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.port = runner.addresses[0][1]
    one.reset()
    try:
        yield one
    finally:
        await runner.cleanup()


def claims_of(token: str) -> Claims:
    """What a token says, unchecked."""
    found: Claims = jwt.decode(token, options={"verify_signature": False})
    return found
