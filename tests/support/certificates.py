"""A certificate authority for one test run, and leaves good and bad."""

import datetime as dt
import ipaddress
import ssl
import warnings
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """Signs leaves for any hosts; ``ca_file`` is the PEM that the program under test trusts."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._stranger = trustme.CA()
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def server(self, *hosts: str) -> ssl.SSLContext:
        """A server context whose leaf names ``hosts`` and is signed by this authority."""
        return _server(self._ca.issue_cert(*hosts))

    def server_of_stranger(self, *hosts: str) -> ssl.SSLContext:
        """A leaf that names ``hosts`` but comes from an authority nobody trusts."""
        return _server(self._stranger.issue_cert(*hosts))

    def server_expired(self, *hosts: str) -> ssl.SSLContext:
        """A trusted leaf that ended yesterday."""
        now = dt.datetime.now(dt.UTC)
        return _server(
            self._ca.issue_cert(
                *hosts, not_before=now - dt.timedelta(days=9), not_after=now - dt.timedelta(days=1)
            )
        )

    def server_self_signed(self, host: str) -> ssl.SSLContext:
        """A leaf that signs itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        now = dt.datetime.now(dt.UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = self._folder / f"self-signed-{host}.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    def server_old(self, *hosts: str) -> ssl.SSLContext:
        """A trusted leaf on a server that speaks nothing newer than TLS 1.1 (where OpenSSL still lets it)."""
        context = self.server(*hosts)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():  # Python warns of what this peer is there to be refused for
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context

    def trusting(self) -> ssl.SSLContext:
        """A caller's context that trusts this authority and nothing else."""
        return ssl.create_default_context(cafile=self.ca_file)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _server(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    return context
