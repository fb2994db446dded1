// @notionhq/client: adds /v1 by itself.
import { Client, LogLevel, iteratePaginatedAPI } from "@notionhq/client";

export const sdk = { package: "@notionhq/client", bases: ["/notion", "/notion/"] };
const properties = { Name: { title: [{ text: { content: "cavolo “nero”" } }] } };
const page = { parent: { database_id: "d-1" }, properties };
const at = (baseUrl, auth) => new Client({ auth, baseUrl, logLevel: LogLevel.ERROR });

export async function use(tour, base) {
  const notion = at(tour.http + base, tour.key);
  await tour.read(async () => (await notion.users.me({})).name, "Relay ✓");
  await tour.write(async () => (await notion.pages.create(page)).properties, properties);
  const ids = async () => {
    const found = [];
    for await (const { id } of iteratePaginatedAPI(notion.users.list, { page_size: 2 })) found.push(id);
    return found;
  };
  await tour.pages(ids, ["u-1", "u-2", "u-3"]);
  await tour.upload(async () => {
    const { id } = await notion.fileUploads.create({ mode: "single_part", filename: "a.txt" });
    const file = { filename: "a.txt", data: new Blob(["Grüße\n"], { type: "text/plain" }) };
    return (await notion.fileUploads.send({ file_upload_id: id, file })).status;
  }, "uploaded");
}

export async function refuse(tour, base) {
  await tour.refused(() => at(tour.http + base, tour.narrow).pages.create(page), "APIResponseError");
}
