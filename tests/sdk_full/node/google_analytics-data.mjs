// @google-analytics/data without gRPC: it puts a port behind its address (`/google_analytics:443/v1beta/...`), which the proxy takes.
import { BetaAnalyticsDataClient } from "@google-analytics/data";
import { OAuth2Client } from "google-auth-library";

export const sdk = {
  package: "@google-analytics/data",
  bases: ["/google_analytics", ""],
  without: { upload: "the API has none", write: "the API has none" },
};

function at(tour, base, key) {
  const authClient = new OAuth2Client();
  authClient.setCredentials({ access_token: key });
  const { host, hostname, port } = new URL(tour.http);
  const where = base ? { apiEndpoint: host + base } : { apiEndpoint: hostname, port };
  return new BetaAnalyticsDataClient({ fallback: true, protocol: "http", ...where, authClient });
}

async function report(client, offset) {
  const dimensions = [{ name: "city" }];
  const [{ rows }] = await client.runReport({ property: "properties/1", dimensions, limit: 2, offset }, { retry: null });
  return rows.map(({ dimensionValues }) => dimensionValues[0].value);
}

export async function use(tour, base) {
  const client = at(tour, base, base ? tour.key : tour.rooted);
  await tour.read(async () => (await client.getMetadata({ name: "properties/1/metadata" }))[0].dimensions[0].apiName, "city");
  await tour.pages(async () => [...(await report(client, 0)), ...(await report(client, 2))], ["Ü1", "Ü2", "Ü3"]);
}

export async function refuse(tour, base) {
  await tour.refused(() => report(at(tour, base, tour.narrow), 0), "GaxiosError");
}
