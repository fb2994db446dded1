// box-node-sdk: like boxsdk, with bodies in chunks.
import { Readable } from "node:stream";

import { BoxClient, BoxDeveloperTokenAuth } from "box-node-sdk";

export const sdk = { package: "box-node-sdk", bases: ["/box", "/box@default"] };
const BIG = Buffer.alloc(2 * 256 * 1024 + 100, "x");
const at = (baseUrl, token) =>
  new BoxClient({ auth: new BoxDeveloperTokenAuth({ token }) }).withCustomBaseUrls({
    baseUrl,
    uploadUrl: `${baseUrl}/api`,
    oauth2Url: `${baseUrl}/oauth2`,
  });

export async function use(tour, base) {
  const box = at(tour.http + base, tour.key);
  await tour.read(async () => (await box.users.getUserMe()).name, "Grace ✓");
  await tour.read(async () => {
    const parts = [];
    for await (const part of await box.downloads.downloadFile("123")) parts.push(part);
    return Buffer.concat(parts).toString();
  }, "Grüße\n");
  const folder = (name) => box.folders.createFolder({ name, parent: { id: "0" } });
  await tour.write(async () => (await folder("Grüße")).name, "Grüße");
  await tour.pages(async () => {
    const names = [];
    for (const offset of [0, 2]) {
      const { entries } = await box.folders.getFolderItems("0", { queryParams: { offset, limit: 2 } });
      names.push(...entries.map(({ name }) => name));
    }
    return names;
  }, ["n1", "n2", "n3"]);
  const attributes = { name: "a.txt", parent: { id: "0" } };
  const sent = () => box.uploads.uploadFile({ attributes, file: Readable.from([Buffer.from("Grüße\n")]) });
  await tour.upload(async () => (await sent()).entries[0].name, "a.txt");
  const big = () => box.chunkedUploads.uploadBigFile(Readable.from([BIG]), "big", BIG.length, "0");
  await tour.upload(async () => (await big()).name, "big");
}

export async function refuse(tour, base) {
  const box = at(tour.http + base, tour.narrow);
  await tour.refused(() => box.folders.createFolder({ name: "no", parent: { id: "0" } }), "BoxApiError");
}
