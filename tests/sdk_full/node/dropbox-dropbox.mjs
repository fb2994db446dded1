// dropbox: insists on https; an empty delimiter makes one host of its three.
import { Dropbox } from "dropbox";

export const sdk = { package: "dropbox", bases: ["/dropbox", "/dropbox@default"] };
const at = (tour, base, accessToken) =>
  new Dropbox({ accessToken, domain: tour.tls.replace("https://", "") + base, domainDelimiter: "" });

export async function use(tour, base) {
  const dropbox = at(tour, base, tour.key);
  await tour.read(async () => (await dropbox.usersGetCurrentAccount()).result.name.display_name, "Grace ✓");
  const content = async () => {
    const { result } = await dropbox.filesDownload({ path: "/a" });
    return Buffer.from(result.fileBinary ?? (await result.fileBlob.arrayBuffer())).toString();
  };
  await tour.read(content, "Grüße\n");
  await tour.read(async () => (await dropbox.filesListFolderLongpoll({ cursor: "c1" })).result.changes, true);
  await tour.write(async () => (await dropbox.filesCreateFolderV2({ path: "/Grüße" })).result.metadata.name, "Grüße");
  await tour.pages(async () => {
    let { result } = await dropbox.filesListFolder({ path: "" });
    const names = result.entries.map(({ name }) => name);
    while (result.has_more) {
      ({ result } = await dropbox.filesListFolderContinue({ cursor: result.cursor }));
      names.push(...result.entries.map(({ name }) => name));
    }
    return names;
  }, ["a", "b", "c"]);
  const sent = async () => (await dropbox.filesUpload({ path: "/Übung", contents: Buffer.from("Grüße\n") })).result.name;
  await tour.upload(sent, "Übung");
}

export async function refuse(tour, base) {
  const aside = { where: "`error.message` of its `error`: its own text is the status", look: ({ error }) => error.error.message };
  const call = () => at(tour, base, tour.narrow).filesCreateFolderV2({ path: "/no" });
  await tour.refused(call, "DropboxResponseError", aside);
}
