"""A service that exists only on this machine: what the demo forwards to.

It speaks real TLS with a certificate made on the spot, so that the demo takes the very way that calls to real
services take: name, verification, pinned address, injected token.
"""

import datetime as dt
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVICE = "sandbox"
HOST = "acme.example.com"
CONFIG = {"subdomain": "acme"}
SERVICE_FILE = """\
title = "Sandbox"
docs = "https://example.com"
verified = "live"

[[hosts]]
name = "api"
origin = "https://{subdomain}.example.com"

[params.subdomain]
pattern = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
required = true
lower = true
example = "acme"

[verify]
method = "GET"
path = "/v1/whoami"
name_path = "account"
"""
_CERTIFICATE_LIFE = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived: ``fields`` in order."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for :data:`HOST` with its key, in one PEM file readable by us alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "connector-proxy demo")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "sandbox.pem"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Sandbox:
    """The service: answers 200 to its ``token``, else 401, and tells ``on_request`` what it got.

    Use :meth:`start` and :meth:`stop` on one loop; ``port`` is known in between.
    """

    def __init__(self, certificate: Path, token: str, on_request: Callable[[Seen], None]) -> None:
        self.port = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._token = token
        self._on_request = on_request
        self._runner = web.ServerRunner(web.Server(self._answer))

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._on_request(Seen(request.method, request.raw_path, tuple(request.headers.items())))
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.json_response({"error": "invalid token"}, status=401)
        answer = {"account": "Ada at Acme", "you_called": f"{request.method} {request.raw_path}"}
        body = await request.text()
        return web.json_response(answer | {"you_sent": body} if body else answer)
