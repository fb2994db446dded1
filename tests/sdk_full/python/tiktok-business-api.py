"""tiktok-business-api-sdk-official: the key in ``Access-Token``, an argument of every call."""

import pathlib
import tempfile

from business_api_client import ApiClient, Configuration
from business_api_client.api.account_management_api import AccountManagementApi
from business_api_client.api.campaign_creation_api import CampaignCreationApi
from business_api_client.api.file_api import FileApi

PACKAGE, BASES, WITHOUT = "tiktok-business-api-sdk-official", ("/tiktok", "/tiktok@default"), {}


def client(tour, base):
    configuration = Configuration()
    configuration.host = tour.http + base
    return ApiClient(configuration)


def use(tour, base):
    api = client(tour, base)
    campaigns = CampaignCreationApi(api)
    tour.read(
        lambda: AccountManagementApi(api).advertiser_info(["1"], tour.key)["data"]["list"][0]["name"], "Grüße"
    )
    body = {"advertiser_id": "1", "campaign_name": "Grüße", "objective_type": "REACH"}
    tour.write(lambda: campaigns.campaign_create(tour.key, body=body)["data"]["name"], "Grüße")
    tour.pages(
        lambda: [
            one["campaign_id"]
            for page in (1, 2)
            for one in campaigns.campaign_get("1", tour.key, page=page, page_size=2)["data"]["list"]
        ],
        ["c1", "c2", "c3"],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a.png")
        path.write_text("Grüße\n", encoding="utf-8")
        tour.upload(
            lambda: FileApi(api).ad_image_upload(tour.key, advertiser_id="1", image_file=str(path))["data"][
                "image_id"
            ],
            "ad-site-i18n-sg/1",
        )


def refuse(tour, base):
    campaigns = CampaignCreationApi(client(tour, base))
    tour.refused(lambda: campaigns.campaign_create(tour.narrow, body={"advertiser_id": "1"}), "ApiException")
