"""notion-client: adds /v1 by itself, so that its base is the origin, with or without a slash."""

import io

from notion_client import Client
from notion_client.helpers import iterate_paginated_api

PACKAGE, BASES, WITHOUT = "notion-client", ("/notion", "/notion/"), {}
PAGE = {
    "parent": {"database_id": "d-1"},
    "properties": {"Name": {"title": [{"text": {"content": "cavolo “nero”"}}]}},
}


def use(tour, base):
    notion = Client(auth=tour.key, base_url=tour.http + base)
    tour.read(lambda: notion.users.me()["name"], "Relay ✓")
    tour.write(lambda: notion.pages.create(**PAGE)["properties"], PAGE["properties"])
    tour.pages(
        lambda: [one["id"] for one in iterate_paginated_api(notion.users.list, page_size=2)],
        ["u-1", "u-2", "u-3"],
    )
    tour.upload(lambda: upload(notion), "uploaded")


def upload(notion):
    made = notion.file_uploads.create(mode="single_part", filename="a.txt")
    file = ("a.txt", io.BytesIO("Grüße\n".encode()), "text/plain")
    return notion.file_uploads.send(file_upload_id=made["id"], file=file)["status"]


def refuse(tour, base):
    notion = Client(auth=tour.narrow, base_url=tour.http + base)
    tour.refused(lambda: notion.pages.create(**PAGE), "APIResponseError")
