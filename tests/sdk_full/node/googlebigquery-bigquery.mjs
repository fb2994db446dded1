// @google-cloud/bigquery: adds /bigquery/v2 by itself.
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { BigQuery } from "@google-cloud/bigquery";
import { OAuth2Client } from "google-auth-library";

export const sdk = { package: "@google-cloud/bigquery", bases: ["/googlebigquery", "/googlebigquery@default"] };

function at(apiEndpoint, key) {
  const authClient = new OAuth2Client();
  authClient.setCredentials({ access_token: key });
  return new BigQuery({ projectId: "p", apiEndpoint, authClient, autoRetry: false });
}

export async function use(tour, base) {
  const tables = at(tour.http + base, tour.key);
  await tour.read(async () => (await tables.dataset("a").getMetadata())[0].friendlyName, "Übung");
  await tour.write(async () => (await tables.createDataset("new"))[0].id, "new");
  await tour.pages(async () => (await tables.getDatasets())[0].map(({ id }) => id), ["a", "b", "c"]);
  const file = join(tmpdir(), `rows-${process.pid}.csv`);
  writeFileSync(file, "1\n2\n");
  const table = tables.dataset("d").table("t");
  await tour.upload(async () => (await table.load(file, { sourceFormat: "CSV" }))[0].status.state, "DONE");
}

export async function refuse(tour, base) {
  await tour.refused(() => at(tour.http + base, tour.narrow).createDataset("no"), "ApiError");
}
