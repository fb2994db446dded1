"""pyairtable: adds /v0 by itself; a long formula turns the query into a POST."""

from pyairtable import Api

PACKAGE, BASES = "pyairtable", ("/airtable", "/airtable/")
WITHOUT = {"upload": "it puts content.airtable.com in place of the proxy's host, by a constant"}


def use(tour, base):
    api = Api(tour.key, endpoint_url=tour.http + base)
    table = api.table("appA", "Tasks")
    tour.read(lambda: api.whoami()["id"], "usr1")
    tour.write(lambda: table.create({"Name": "Grüße"})["fields"], {"Name": "Grüße"})
    tour.pages(lambda: [one["id"] for one in table.all(page_size=2)], ["rec1", "rec2", "rec3"])
    long = "OR(" + ",".join(f"{{Name}}='{n:050}'" for n in range(400)) + ")"
    tour.read(lambda: [one["id"] for one in table.all(formula=long)], ["rec1", "rec2", "rec3"])


def refuse(tour, base):
    table = Api(tour.narrow, endpoint_url=tour.http + base).table("appA", "Tasks")
    tour.refused(lambda: table.create({"Name": "no"}), "HTTPError")
