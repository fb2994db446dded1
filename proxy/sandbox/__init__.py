"""A service that exists only on this machine: what the demo forwards to, and connects an account of.

It speaks real TLS with a certificate made on the spot, so that the demo takes the very way that calls to real
services take: name, verification, pinned address, injected token. Its provider asks for consent in a browser.
"""

from proxy.sandbox.certificate import make_certificate
from proxy.sandbox.facts import CLIENT_ID, CONFIG, HOST, SERVICE, service_file
from proxy.sandbox.service import Sandbox, Seen

__all__ = [
    "CLIENT_ID",
    "CONFIG",
    "HOST",
    "SERVICE",
    "Sandbox",
    "Seen",
    "make_certificate",
    "service_file",
]
