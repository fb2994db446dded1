"""Permits with words: ``read-only`` and ``observe`` (design §4).

Pure: the document of a GraphQL call is still to be looked at by whoever can read it.
"""

from typing import NamedTuple

from proxy.catalog.model import ReadOnlyEntry
from proxy.errors import AmbiguousTarget, NotPermitted, RequestError
from proxy.forwarding.permits.preset import Call, preset_of
from proxy.forwarding.permits.verdicts import Decider, cover, no_permit

NOT_READ_ONLY = "the key is read-only, and this call is not in the reviewed list of calls that only read"


class Finding(NamedTuple):
    """What the permits say to a call.

    ``refused``: why it is not for them; None: it is. ``document``: the entry by which it is, if what it
    carries only reads GraphQL. ``observed``: it passes all the same.
    """

    refused: RequestError | None
    document: ReadOnlyEntry | None
    observed: bool


def judge(permits: Decider, call: Call) -> Finding:
    """The finding for one call."""
    about = [
        permit
        for permit in permits.of(call.service.type_id)
        if permit.connection is None or permit.connection == call.connection
    ]
    observed = any(permit.observe for permit in about)
    where = (call.service.type_id, call.connection, call.method, call.path)
    try:
        if cover((permit for permit in about if not permit.read_only), *where):
            return Finding(None, None, observed)
        reading = cover((permit for permit in about if permit.read_only), *where)
    except AmbiguousTarget as error:
        return Finding(error, None, observed)
    entry = preset_of(call.service).entry_for(call) if reading else None
    if entry is not None:
        return Finding(None, entry if entry.graphql else None, observed)
    reason = NOT_READ_ONLY if reading else no_permit(call.method)
    return Finding(NotPermitted(reason, service=call.service.type_id), None, observed)


def could_allow(permits: Decider, call: Call) -> bool:
    """True when the call passes with at least one connection."""
    names = {permit.connection for permit in permits.of(call.service.type_id)}
    findings = (judge(permits, call._replace(connection=name)) for name in names)
    return any(finding.refused is None or finding.observed for finding in findings)


def only_reads(permits: Decider, service: str) -> bool:
    """True when nothing but read-only permits is about the service."""
    about = permits.of(service)
    return bool(about) and all(permit.read_only and not permit.observe for permit in about)
