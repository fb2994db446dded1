"""The data path: one coroutine that reads as its own table of contents (``plane``).

gate -> parse target -> find key -> authenticate -> match service, host, path -> permit -> connection
-> credential -> rewrite -> forward -> relay -> record. ``admission`` is what happens up to the credential,
``sending`` what comes after. The only package that knows both ``forwarding`` and ``connectors``.
"""

from proxy.forwarding.handler.plane import DataPlane
from proxy.forwarding.handler.terms import Terms

__all__ = ["DataPlane", "Terms"]
