// @hubspot/api-client.
import { Client } from "@hubspot/api-client";

export const sdk = { package: "@hubspot/api-client", bases: ["/hubspot", "/hubspot@default"] };
const properties = { email: "ä@example.com" };
const at = (basePath, accessToken) => new Client({ accessToken, basePath, numberOfApiCallRetries: 0 });

export async function use(tour, base) {
  const { crm, files } = at(tour.http + base, tour.key);
  await tour.read(async () => (await crm.contacts.basicApi.getById("1")).properties.email, "1@example.com");
  const link = async () => (await crm.contacts.basicApi.getPage(2)).paging.next.link;
  await tour.read(link, `${tour.http}${base}/crm/v3/objects/contacts?limit=2&after=2`);
  await tour.write(async () => (await crm.contacts.basicApi.create({ properties, associations: [] })).properties, properties);
  await tour.pages(async () => (await crm.contacts.getAll(2)).map(({ id }) => id), ["1", "2", "3"]);
  const file = { data: Buffer.from("Grüße\n"), name: "a.txt" };
  const options = JSON.stringify({ access: "PRIVATE" });
  await tour.upload(async () => (await files.filesApi.upload(file, undefined, "/", "a.txt", undefined, options)).id, "9");
}

export async function refuse(tour, base) {
  const { crm } = at(tour.http + base, tour.narrow);
  await tour.refused(() => crm.contacts.basicApi.create({ properties, associations: [] }), "ApiException");
}
