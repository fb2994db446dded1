"""A batch on its way: read whole, each request in it judged as if it came alone, sent if all of them may."""

import asyncio
from typing import NamedTuple

from aiohttp.streams import StreamReader

from proxy.connectors.model import Credential
from proxy.connectors.module import Obtain
from proxy.errors import NotPermitted
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.form import refuse_key
from proxy.forwarding.gate import Head
from proxy.forwarding.handler.bodies import Arrived, own_by
from proxy.forwarding.held import hold
from proxy.forwarding.keys import Presented
from proxy.forwarding.nested import judging
from proxy.forwarding.nested.parts import MOST_BYTES, MOST_S
from proxy.forwarding.record import Record
from proxy.forwarding.routing import Route
from proxy.problems import row

_PARTS_AT_ONCE = 16  # some 0.3 ms each; other callers come in between


class Whole(NamedTuple):
    """What it takes to read a request that holds further ones. ``body``: if it was read already."""

    presented: Presented
    payload: StreamReader
    caller: CallerConnection
    record: Record
    body: bytes | None


class Judged(NamedTuple):
    """What may be sent; ``parts`` requests are in it."""

    head: Head
    credential: Credential
    body: bytes
    parts: int


async def judged(
    whole: Whole, arrived: Arrived, route: Route, obtain: Obtain, credential: Credential | None
) -> Judged:
    """Judge each part; a credential is asked for once the batch was read, and the key reaches the service.

    Args:
        whole: see there.
        arrived: how it came.
        route: where it goes: to a path that ``judging.is_open``.
        obtain: gives the account's credential.
        credential: the same, if it is at hand.

    Raises:
        RequestError: the batch is none, or a part of it may not be sent.
    """
    presented, payload, caller, record, body = whole
    head, grant, options = arrived.head, arrived.grant, arrived.options
    service = route.service.type_id
    if not grant.permits.reaches(service):
        raise NotPermitted("the key has no permit for this service", service=service)
    judging.check_whole(head, route)
    if body is None:
        body = await hold(head, payload, caller, MOST_BYTES, allowed=options.body_bytes, seconds=MOST_S)
    envelope = judging.read(head, route, body)
    credential = credential or await obtain(service, route.connection)
    judge = judging.Judge(
        route,
        grant=grant,
        presented=presented,
        account=judging.Account(credential.connection, credential.config or {}),
        ours=judging.origins(head.host, options.public_url),
        own=own_by(arrived, route, credential),
        known=arrived.catalog.services,
        limits=options.limits,
    )
    outers = []
    for number, inner in enumerate(envelope.inners, 1):
        outers.append(judge.judged(number, inner))
        if not number % _PARTS_AT_ONCE:
            await asyncio.sleep(0)
    body = envelope.written(outers)
    if judge.observed is not None:
        record.observed = row(judge.observed).code
    refuse_key(body, presented.key)
    return Judged(judging.framed(head, len(body)), credential, body, len(outers))
