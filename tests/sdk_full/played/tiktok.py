"""TikTok's API for Business: the token in a field of its own, trailing slashes, errors in a 200."""

import json

from playing import Played, Reply
from support.arrivals import Arrival

API = "business-api.tiktok.com/open_api/v1.3"


def ok(data: object) -> Reply:
    return Reply({"code": 0, "message": "OK", "request_id": "r", "data": data})


def campaigns(call: Arrival) -> Reply:
    page = int(call.query["page"])
    found = [{"campaign_id": f"c{n}"} for n in ([1, 2], [3])[page - 1]]
    return ok(
        {"list": found, "page_info": {"page": page, "page_size": 2, "total_number": 3, "total_page": 2}}
    )


def advertisers(call: Arrival) -> Reply:
    return ok(
        {
            "list": [
                {"advertiser_id": one, "name": "Grüße"} for one in json.loads(call.query["advertiser_ids"])
            ]
        }
    )


def image(call: Arrival) -> Reply:
    assert "Grüße\n".encode() in call.request.body
    return ok({"image_id": "ad-site-i18n-sg/1"})


SERVICE = Played(
    token="real-tiktok-0123456789abcdef",
    header="access-token",
    scheme="",
    routes={
        f"GET {API}/advertiser/info/": advertisers,
        f"GET {API}/campaign/get/": campaigns,
        f"POST {API}/campaign/create/": lambda call: ok(
            {"campaign_id": "c9", "name": call.json()["campaign_name"]}
        ),
        f"POST {API}/file/image/ad/upload/": image,
    },
)
