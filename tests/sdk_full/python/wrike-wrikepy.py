"""WrikePy: returns whatever comes as a response of requests, and raises nothing by itself."""

from tour import Aside
from WrikePy import Contacts, Tasks, Wrike

PACKAGE, BASES = "WrikePy", ("/wrike/api/v4", "/wrike")
WITHOUT = {"upload": "its upload has a fault of its own: it hands requests a text for headers"}


def use(tour, base):
    wrike = Wrike(base_url=tour.http + base, perm_access_token=tour.key)
    tour.read(lambda: Contacts(wrike).query__contacts().json()["data"][0]["firstName"], "Grace ✓")
    tour.write(lambda: create(wrike).json()["data"][0]["title"], "Grüße & mehr")
    tour.pages(lambda: pages(wrike), ["t1", "t2", "t3"])


def create(wrike):
    return Tasks(wrike, ids="f1", parameters={"title": "Grüße & mehr"}).create__folders_folderId_tasks()


def pages(wrike):
    first = Tasks(wrike, parameters={"pageSize": 2}).query__tasks().json()
    rest = Tasks(wrike, parameters={"nextPageToken": first["nextPageToken"]}).query__tasks().json()
    return [one["id"] for one in (*first["data"], *rest["data"])]


def refuse(tour, base):
    wrike = Wrike(base_url=tour.http + base, perm_access_token=tour.narrow)
    tour.refused(
        lambda: create(wrike).raise_for_status(),
        "HTTPError",
        aside=Aside(
            "`errorDescription` of the response: it raises nothing itself, and requests tells the status",
            lambda error: error.response.json()["errorDescription"],
        ),
    )
