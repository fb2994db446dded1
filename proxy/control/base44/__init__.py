"""Base44's connectors calls over HTTP, answered by us for one app (design §6; R165-R184).

``asking`` finds out who asks and what the key may have, ``tokens`` gives connections, ``integrations`` is
what Base44's command line calls, ``calls`` makes requests for others, ``answers`` has the shapes of answers,
``routes`` where each call is.
"""
