"""hubspot-api-client: two settings for its two ways, ``host`` and ``base_url``."""

import json
import pathlib
import tempfile

from hubspot import HubSpot
from hubspot.crm.contacts import SimplePublicObjectInputForCreate

PACKAGE, BASES, WITHOUT = "hubspot-api-client", ("/hubspot", "/hubspot@default"), {}


def client(tour, base, key):
    url = tour.http + base
    return HubSpot(access_token=key, host=url, base_url=url)


def create(hubspot):
    made = SimplePublicObjectInputForCreate(properties={"email": "ä@example.com"}, associations=[])
    return hubspot.crm.contacts.basic_api.create(simple_public_object_input_for_create=made).properties


def use(tour, base):
    hubspot = client(tour, base, tour.key)
    tour.read(lambda: hubspot.crm.contacts.basic_api.get_by_id("1").properties["email"], "1@example.com")
    tour.read(lambda: hubspot.api_request({"path": "/account-info/v3/details"}).json()["portalId"], 1)
    tour.read(
        lambda: hubspot.crm.contacts.basic_api.get_page(limit=2).paging.next.link,
        f"{tour.http}{base}/crm/v3/objects/contacts?limit=2&after=2",
    )
    tour.write(lambda: create(hubspot), {"email": "ä@example.com"})
    tour.pages(lambda: [one.id for one in hubspot.crm.contacts.get_all()], ["1", "2", "3"])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a.txt")
        path.write_text("Grüße\n", encoding="utf-8")
        options = json.dumps({"access": "PRIVATE"})
        tour.upload(
            lambda: hubspot.files.files_api.upload(file=str(path), folder_path="/", options=options).id, "9"
        )


def refuse(tour, base):
    hubspot = client(tour, base, tour.narrow)
    tour.refused(lambda: create(hubspot), "ForbiddenException")
