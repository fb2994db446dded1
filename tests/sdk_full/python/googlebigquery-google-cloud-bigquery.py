"""google-cloud-bigquery: adds /bigquery/v2 by itself; its address may come from the environment."""

import io
import os

from google.api_core.retry import Retry
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

PACKAGE, BASES, WITHOUT = "google-cloud-bigquery", ("/googlebigquery", "/googlebigquery@default"), {}
ONCE = Retry(predicate=lambda _: False)


def client(tour, base, key):
    options = {"api_endpoint": tour.http + base}
    return bigquery.Client(project="p", credentials=Credentials(key), client_options=options)


def use(tour, base):
    tables = client(tour, base, tour.key)
    tour.read(lambda: tables.get_dataset("a").friendly_name, "Übung")
    tour.write(lambda: tables.create_dataset("new").dataset_id, "new")
    tour.pages(lambda: [one.dataset_id for one in tables.list_datasets(page_size=2)], ["a", "b", "c"])
    tour.upload(lambda: tables.load_table_from_file(io.BytesIO(b"1\n2\n"), "p.d.t").result().state, "DONE")
    os.environ["BIGQUERY_EMULATOR_HOST"] = tour.http + base
    try:
        from_environment = bigquery.Client(project="p", credentials=Credentials(tour.key))
        tour.read(lambda: from_environment.get_dataset("a").friendly_name, "Übung")
    finally:
        del os.environ["BIGQUERY_EMULATOR_HOST"]


def refuse(tour, base):
    tour.refused(lambda: client(tour, base, tour.narrow).create_dataset("no", retry=ONCE), "Forbidden")
