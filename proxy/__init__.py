"""connector-proxy: an authenticating reverse proxy for external APIs.

The way of a request, top to bottom, is one coroutine in ``forwarding/handler/``::

    gate -> parse target -> find key -> authenticate -> match service, host, path -> permit
         -> connection -> credential -> rewrite -> forward -> relay -> record

Requests that need no waiting of our own take the same steps without a task (``forwarding/direct.py``).

``catalog`` says what a service is, ``connectors`` owns the accounts and their tokens,
``forwarding`` is the data plane, ``control`` the control plane, ``app`` puts them together.
"""

__version__ = "0.1.0"
