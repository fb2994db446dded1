"""Salesforce: the account's own host, pages by path, addresses of other hosts in the answers, jobs in CSV."""

from playing import Played, Reply, Route
from support.arrivals import Arrival

HOST, LOGIN = "acme.my.salesforce.com", "login.salesforce.com"
API, ID = f"{HOST}/services/data", f"{LOGIN}/id/00D000000000001AAA/005000000000001AAA"


def record(number: int) -> dict[str, object]:
    url = f"/services/data/v59.0/sobjects/Account/00{number}"
    return {"attributes": {"type": "Account", "url": url}, "Id": f"00{number}"}


def query(call: Arrival) -> Reply:
    more = {"done": False, "nextRecordsUrl": "/services/data/v59.0/query/01g-2"}
    return Reply({"totalSize": 3, "records": [record(1), record(2)], **more})


def created(call: Arrival) -> Reply:
    assert call.json()["Name"] == "Grüße"
    return Reply({"id": "001000000000009AAA", "success": True, "errors": []}, 201)


def ingest(call: Arrival) -> Reply:
    return Reply(
        {
            "id": "750",
            "state": "Open",
            "contentUrl": "services/data/v59.0/jobs/ingest/750/batches",
            **call.json(),
        }
    )


def rows(call: Arrival) -> Reply:
    assert "Grüße" in call.request.body.decode()
    return Reply(status=201)


def versioned(prefix: str) -> dict[str, Route]:
    return {
        f"GET {API}/v{prefix}": Reply({"identity": f"https://{ID}"}),
        f"GET {API}/v{prefix}/": Reply({"identity": f"https://{ID}"}),
        f"GET {API}/v{prefix}/query": query,
        f"GET {API}/v{prefix}/query/": query,
        f"GET {API}/v{prefix}/sobjects/Account/001": Reply({**record(1), "Name": "Übung"}),
        f"POST {API}/v{prefix}/sobjects/Account": created,
        f"POST {API}/v{prefix}/sobjects/Account/": created,
        f"POST {API}/v{prefix}/jobs/ingest": ingest,
        f"PUT {API}/v{prefix}/jobs/ingest/750/batches": rows,
        f"PATCH {API}/v{prefix}/jobs/ingest/750": Reply({"id": "750", "state": "UploadComplete"}),
        f"GET {API}/v{prefix}/jobs/ingest/750": Reply(
            {"id": "750", "state": "JobComplete", "numberRecordsProcessed": 1, "numberRecordsFailed": 0}
        ),
    }


SERVICE = Played(
    token="00Dreal!salesforce.0123456789",
    settings={
        "kind": "static",
        "token": {"env": "CONNECTOR_PROXY_TOKEN_SALESFORCE"},
        "connection_config": {"instance_url": f"https://{HOST}"},
    },
    routes={
        **versioned("59.0"),
        f"GET {API}/v59.0/query/01g-2": Reply({"totalSize": 3, "done": True, "records": [record(3)]}),
        f"GET {ID}": Reply(
            {"user_id": "005000000000001AAA", "organization_id": "00D000000000001AAA", "urls": {}}
        ),
    },
)
