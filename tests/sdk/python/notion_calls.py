"""notion-client: sync and async. It adds ``/v1`` by itself, so the origin is the only base that it can take."""

from typing import Any

from notion_client import AsyncClient, Client
from notion_client.errors import HTTPResponseError
from notion_client.helpers import collect_paginated_api
from recording import Recording

PAGE: dict[str, Any] = {
    "parent": {"type": "data_source_id", "data_source_id": "d9824bdc-8445-4327-be8b-5b47500af6ce"},
    "properties": {"Name": {"title": [{"text": {"content": "Tuscan kale “cavolo”"}}]}},
}


def details(error: HTTPResponseError) -> dict[str, object]:
    """What a program reads from the SDK's own exception."""
    return {"status": error.status, "body": error.body} if isinstance(error, HTTPResponseError) else {}


def main() -> None:
    told = Recording("notion-client", details)
    base = f"{told.base}/notion"
    client = Client(auth=told.key, base_url=base)
    told.step("whoami", client.users.me)
    told.step("pages", lambda: [user["id"] for user in collect_paginated_api(client.users.list)])
    told.step("write", lambda: client.pages.create(**PAGE))
    told.step("limited", lambda: client.search(query="kale"))
    told.step("missing", lambda: client.pages.retrieve("0"))

    async def whoami() -> Any:
        async with AsyncClient(auth=told.key, base_url=base) as one:
            return await one.users.me()

    told.step_async("async", whoami)

    narrow = Client(auth=told.narrow, base_url=base)
    told.step("permitted", narrow.users.me)
    told.step("refused", lambda: narrow.pages.create(**PAGE))
    told.step(
        "credential",
        lambda: client.oauth.revoke(client_id="app", client_secret=told.key, token="ntn_of_somebody"),
    )
    told.step("stranger", Client(auth=told.stranger, base_url=base).users.me)
    told.step("unconnected", Client(auth=told.key, base_url=f"{told.base}/notion@nobody").users.me)
    told.tell()


if __name__ == "__main__":
    main()
