"""google-analytics-data: over REST; its default is gRPC, which takes no path. A key can be an API key of Google's."""

from google.analytics.data_v1beta import BetaAnalyticsDataClient
from google.oauth2.credentials import Credentials

PACKAGE, BASES = "google-analytics-data", ("/google_analytics", "/google_analytics@default")
WITHOUT = {"upload": "the API has none", "write": "the API has none"}


def client(tour, base, key):
    options = {"api_endpoint": tour.http + base}
    return BetaAnalyticsDataClient(transport="rest", credentials=Credentials(key), client_options=options)


def report(data, start):
    asked = {"property": "properties/1", "dimensions": [{"name": "city"}], "limit": 2, "offset": start}
    return [row.dimension_values[0].value for row in data.run_report(asked, retry=None).rows]


def use(tour, base):
    data = client(tour, base, tour.key)
    tour.read(lambda: data.get_metadata(name="properties/1/metadata").dimensions[0].api_name, "city")
    tour.pages(lambda: [*report(data, 0), *report(data, 2)], ["Ü1", "Ü2", "Ü3"])
    options = {"api_endpoint": tour.http + base, "api_key": tour.key}
    by_api_key = BetaAnalyticsDataClient(transport="rest", client_options=options)
    tour.read(lambda: report(by_api_key, 0), ["Ü1", "Ü2"])


def refuse(tour, base):
    tour.refused(lambda: report(client(tour, base, tour.narrow), 0), "Forbidden")
