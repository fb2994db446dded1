// @google-analytics/data without gRPC: it takes a host and a port, so that the key has to name the service.
import { BetaAnalyticsDataClient } from "@google-analytics/data";
import { OAuth2Client } from "google-auth-library";

export const sdk = {
  package: "@google-analytics/data",
  bases: [""],
  without: { upload: "the API has none", write: "the API has none" },
};

function at(tour, key) {
  const authClient = new OAuth2Client();
  authClient.setCredentials({ access_token: key });
  const { hostname, port } = new URL(tour.http);
  return new BetaAnalyticsDataClient({ fallback: true, protocol: "http", apiEndpoint: hostname, port, authClient });
}

async function report(client, offset) {
  const dimensions = [{ name: "city" }];
  const [{ rows }] = await client.runReport({ property: "properties/1", dimensions, limit: 2, offset }, { retry: null });
  return rows.map(({ dimensionValues }) => dimensionValues[0].value);
}

export async function use(tour) {
  const client = at(tour, tour.rooted);
  await tour.read(async () => (await client.getMetadata({ name: "properties/1/metadata" }))[0].dimensions[0].apiName, "city");
  await tour.pages(async () => [...(await report(client, 0)), ...(await report(client, 2))], ["Ü1", "Ü2", "Ü3"]);
}

export async function refuse(tour) {
  await tour.refused(() => report(at(tour, tour.key), 0), "GaxiosError", { message: "there is no service of that name" });
}
