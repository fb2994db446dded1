"""BigQuery: jobs, pages by token, loads in the resumable way of uploads."""

from playing import Played, Reply
from support.arrivals import Arrival

HOST = "bigquery.googleapis.com"
API, UPLOAD = f"{HOST}/bigquery/v2/projects/p", f"{HOST}/upload/bigquery/v2/projects/p"
JOB = {"jobReference": {"projectId": "p", "jobId": "j1", "location": "EU"}, "status": {"state": "DONE"}}
LOADED = {
    **JOB,
    "configuration": {"load": {"destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "t"}}},
}
SCHEMA = {"fields": [{"name": "n", "type": "INTEGER", "mode": "NULLABLE"}]}


def dataset(name: str) -> dict[str, object]:
    return {
        "kind": "bigquery#dataset",
        "id": f"p:{name}",
        "datasetReference": {"projectId": "p", "datasetId": name},
    }


def datasets(call: Arrival) -> Reply:
    if call.query.get("pageToken") == "t2":
        return Reply({"datasets": [dataset("c")]})
    return Reply({"datasets": [dataset("a"), dataset("b")], "nextPageToken": "t2"})


def load(call: Arrival) -> Reply:
    if call.query["uploadType"] == "resumable":
        where = f"https://{UPLOAD}/jobs?uploadType=resumable&upload_id=ABPnz"
        return Reply(b"", fields=((b"Location", where.encode()),))
    assert b"1\n2\n" in call.request.body
    return Reply(LOADED)


def loaded(call: Arrival) -> Reply:
    assert call.request.body == b"1\n2\n"
    return Reply(LOADED)


SERVICE = Played(
    token="ya29.real-bigquery-0123456789",
    routes={
        f"GET {API}/datasets": datasets,
        f"GET {API}/datasets/a": Reply({**dataset("a"), "friendlyName": "Übung"}),
        f"POST {API}/datasets": lambda call: Reply(dataset(call.json()["datasetReference"]["datasetId"])),
        f"POST {UPLOAD}/jobs": load,
        f"PUT {UPLOAD}/jobs": loaded,
        f"GET {API}/jobs/j1": Reply(LOADED),
    },
)
