"""The authority that signs the TLS listener where no certificate is configured, good for this machine only.

Its names are constrained (RFC 5280 §4.2.1.10) to ``localhost`` and loopback addresses, and no authority can
stand below it: who trusts it can be fooled about no other host, not even by a thief of its key.
"""

import contextlib
import datetime as dt
import ipaddress
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.errors import StateError

AUTHORITY_NAME, CERTIFICATE_NAME, LEAF_NAME = "local-ca.key.pem", "local-ca.pem", "local-tls.pem"
LEAF_LIFE = dt.timedelta(days=90)
RENEW_BEFORE = dt.timedelta(days=30)
_AUTHORITY_LIFE = dt.timedelta(days=3650)
_SKEW = dt.timedelta(hours=1)
_NAMES = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
    x509.IPAddress(ipaddress.IPv6Address("::1")),
)
_PERMITTED = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.IPv4Network("127.0.0.0/8")),
    x509.IPAddress(ipaddress.IPv6Network("::1/128")),
)


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificate and key, which belong together."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate, for those who are to trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def certificate_path(folder: Path) -> Path:
    """Where a data folder's authority has its certificate, once there is one."""
    return folder / CERTIFICATE_NAME


def ensure_authority(folder: Path, now: dt.datetime) -> Authority:
    """The data folder's authority, made at first use; its certificate lies in :func:`certificate_path` then.

    Raises:
        StateError: its file cannot be read, or the folder not be written.
    """
    path = folder / AUTHORITY_NAME
    try:
        if not path.exists():
            made = make_authority(now)
            _put(path, _private(made.key) + made.pem, keep=True)
        authority = _load(path)
        public = certificate_path(folder)
        if not public.exists() or public.read_bytes() != authority.pem:
            _put(public, authority.pem)
    except OSError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}") from error
    if authority.certificate.not_valid_after_utc <= now + LEAF_LIFE:
        raise StateError(
            f"the local authority in {path} has come to its end: remove the file to make another one"
        )
    return authority


def ensure_leaf(folder: Path, now: dt.datetime) -> Path:
    """The TLS listener's certificate and key in one file (0600), renewed when it is due.

    Raises:
        StateError: see :func:`ensure_authority`.
    """
    authority = ensure_authority(folder, now)
    path = folder / LEAF_NAME
    try:
        if not _is_good(path, authority, now):
            _put(path, make_leaf(authority, now))
    except OSError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}") from error
    return path


def check(folder: Path) -> None:
    """Refuse an authority that cannot be used; none yet is fine, and none is made.

    Raises:
        StateError: its file cannot be read.
    """
    path = folder / AUTHORITY_NAME
    try:
        if path.exists():
            _load(path)
    except OSError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}") from error


def make_authority(now: dt.datetime) -> Authority:
    """A new one."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own, so that a trust store with two of them tells them apart.
    name = _name(f"connector-proxy local CA {secrets.token_hex(4)}")
    certificate = (
        _builder(name, name, key.public_key(), now, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(_PERMITTED, None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def make_leaf(authority: Authority, now: dt.datetime, names: tuple[x509.GeneralName, ...] = _NAMES) -> bytes:
    """Key and certificate of a server, PEM; the authority's constraints are not asked."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject
    certificate = (
        _builder(_name("connector-proxy"), issuer, key.public_key(), now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    return _private(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(path: Path) -> Authority:
    raw = path.read_bytes()
    with contextlib.suppress(ValueError, TypeError):
        key = serialization.load_pem_private_key(raw, password=None)
        certificate = x509.load_pem_x509_certificate(raw)
        if isinstance(key, ec.EllipticCurvePrivateKey) and certificate.public_key() == key.public_key():
            return Authority(certificate, key)
    raise StateError(f"{path} does not hold the local authority: remove the file to make another one")


def _is_good(path: Path, authority: Authority, now: dt.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(authority.certificate)
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE


def _put(path: Path, data: bytes, *, keep: bool = False) -> None:
    """Put a file of ours alone in place, whole or not at all; ``keep``: one that got there first stays."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        else:
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
