"""clickup-python-sdk: its address is an attribute of a class; the key goes without a scheme."""

from clickup_python_sdk import ClickupClient
from clickup_python_sdk.clickupobjects.list import List
from clickup_python_sdk.clickupobjects.task import Task

PACKAGE, BASES, WITHOUT = "clickup-python-sdk", ("/clickup/api/", "/clickup/"), {}


def client(tour, base, key):
    ClickupClient.API = tour.http + base
    return ClickupClient.init(user_token=key)


def use(tour, base):
    clickup = client(tour, base, tour.key)
    tour.read(lambda: clickup.TOKEN_USER["username"], "Grace ✓")
    tour.write(lambda: List(id="1").create_task(name="Grüße")["name"], "Grüße")
    tour.pages(lambda: [one["id"] for one in List(id="1").get_tasks()], ["t1", "t2", "t3"])
    file = {"attachment": ("a.txt", "Grüße\n".encode())}
    tour.upload(lambda: Task(id="9hz").upload_file(file)["name"], "Grüße")


def refuse(tour, base):
    client(tour, base, tour.narrow)
    tour.refused(lambda: List(id="1").create_task(name="no"), "ClickupRequestException")
