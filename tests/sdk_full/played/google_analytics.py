"""Google Analytics: two hosts that paths tell apart; reports are asked for by POST."""

from playing import Played, Reply
from support.arrivals import Arrival

DATA, ADMIN = "analyticsdata.googleapis.com/v1beta/properties/1", "analyticsadmin.googleapis.com/v1beta"


def report(call: Arrival) -> Reply:
    start = int(call.json().get("offset", 0))
    rows = [{"dimensionValues": [{"value": f"Ü{n}"}], "metricValues": [{"value": str(n)}]} for n in (1, 2, 3)]
    return Reply({"rows": rows[start : start + 2], "rowCount": 3, "kind": "analyticsData#runReport"})


SERVICE = Played(
    token="ya29.real-analytics-0123456789",
    routes={
        f"GET {DATA}/metadata": Reply({"name": "properties/1/metadata", "dimensions": [{"apiName": "city"}]}),
        f"POST {DATA}:runReport": report,
        f"GET {ADMIN}/accounts": Reply({"accounts": [{"name": "accounts/1", "displayName": "Grace ✓"}]}),
    },
)
