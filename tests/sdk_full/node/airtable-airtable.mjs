// airtable: adds /v0 by itself; its address may come from the environment.
import Airtable from "airtable";

export const sdk = {
  package: "airtable",
  bases: ["/airtable", "/airtable/"],
  without: { upload: "it has none" },
};

const at = (endpointUrl, apiKey) => new Airtable({ apiKey, endpointUrl, noRetryIfRateLimited: true }).base("appA")("Tasks");

export async function use(tour, base) {
  const table = at(tour.http + base, tour.key);
  await tour.read(async () => (await table.find("rec1")).get("Name"), "n1");
  await tour.write(async () => (await table.create({ Name: "Grüße" })).fields, { Name: "Grüße" });
  await tour.pages(async () => (await table.select({ pageSize: 2 }).all()).map(({ id }) => id), ["rec1", "rec2", "rec3"]);
  process.env.AIRTABLE_ENDPOINT_URL = tour.http + base;
  process.env.AIRTABLE_API_KEY = tour.key;
  await tour.read(async () => (await new Airtable().base("appA")("Tasks").find("rec1")).id, "rec1");
}

export async function refuse(tour, base) {
  await tour.refused(() => at(tour.http + base, tour.narrow).create({ Name: "no" }), "AirtableError");
}
