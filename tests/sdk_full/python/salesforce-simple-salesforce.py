"""simple-salesforce: insists on https; an ``instance`` keeps its path, an ``instance_url`` does not."""

from urllib.parse import urlsplit

import requests
from simple_salesforce import Salesforce

PACKAGE, BASES, WITHOUT = "simple-salesforce", ("/salesforce", ""), {}


def client(tour, base, key):
    session = requests.Session()
    session.verify = tour.ca_file
    options = {"session_id": key, "version": "59.0", "session": session}
    if base:
        return Salesforce(instance=urlsplit(tour.tls).netloc + base, **options)
    return Salesforce(instance_url=tour.tls, **options)


def use(tour, base):
    salesforce = client(tour, base, tour.key if base else tour.rooted)
    tour.read(lambda: salesforce.Account.get("001")["Name"], "Übung")
    tour.write(lambda: salesforce.Account.create({"Name": "Grüße"})["success"], True)
    tour.pages(
        lambda: [one["Id"] for one in salesforce.query_all_iter("SELECT Id FROM Account")],
        ["001", "002", "003"],
    )
    tour.upload(
        lambda: [
            one["numberRecordsProcessed"]
            for one in salesforce.bulk2.Account.insert(records=[{"Name": "Grüße"}])
        ],
        [1],
    )


def refuse(tour, base):
    salesforce = client(tour, base, tour.narrow)
    tour.refused(lambda: salesforce.Account.create({"Name": "no"}), "SalesforceRefusedRequest")
