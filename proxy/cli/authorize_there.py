"""``connect`` with a provider's consent, for a server elsewhere: its link, and how that goes."""

import asyncio

from proxy.cli.authorize import POLL_S, Way, note_stage, show_link
from proxy.cli.operator import Operator
from proxy.connectors.flow import Wish
from proxy.connectors.outcomes import Outcome
from proxy.connectors.vault_flows import Stage
from proxy.operations.moments import parse_moment


async def authorize_there(operator: Operator, wish: Wish, way: Way) -> tuple[Outcome, str]:
    """Begin a flow at the server, show its link, wait for how it ends; the outcome and the service's title.

    Raises:
        ConfigurationError: what has to be put right first; nothing was begun then.
        RemoteError: the server could not be asked.
    """
    title = str((await operator.do("services.show", path={"service": wish.service}))["title"])
    asked = {
        "params": dict(wish.params) or None,
        "scopes": None if wish.scopes is None else list(wish.scopes),
        "registration": wish.registration,
    }
    body = {"service": wish.service, "name": wish.name} | {
        name: value for name, value in asked.items() if value is not None
    }
    flow = await operator.do("flows.begin", body=body)
    if flow["link"] is not None:
        ends = parse_moment(flow["expires_at"], 0.0, 1)
        await asyncio.to_thread(show_link, flow["link"], flow["code"], ends, way)
    said: Stage | None = None
    while flow["outcome"] is None:
        said = note_stage(flow["stage"], said, title)
        await asyncio.sleep(POLL_S)
        flow = await operator.do("flows.show", path={"flow": flow["id"]})
    return Outcome.from_json(flow["outcome"]), title
