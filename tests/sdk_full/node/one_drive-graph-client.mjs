// @microsoft/microsoft-graph-client: sends its token over https only, and to hosts that it is told of.
import {
  BatchRequestContent,
  BatchResponseContent,
  Client,
  FileUpload,
  OneDriveLargeFileUploadTask,
  PageIterator,
} from "@microsoft/microsoft-graph-client";

export const sdk = { package: "@microsoft/microsoft-graph-client", bases: ["/one_drive/", "/one_drive@default/"] };
const BIG = Buffer.alloc(2 * 320 * 1024 + 7, "x");
const ROOT = "/me/drive/root";
const at = (tour, base, key) =>
  Client.init({
    baseUrl: tour.tls + base,
    authProvider: (done) => done(null, key),
    customHosts: new Set(["127.0.0.1"]),
  });

export async function use(tour, base) {
  const graph = at(tour, base, tour.key);
  await tour.read(async () => (await graph.api("/me").get()).displayName, "Grace ✓");
  await tour.read(async () => {
    const answer = await graph.api("/me/drive/items/01a/content").responseType("raw").get();
    return answer.text();
  }, "Grüße\n");
  const folder = { name: "Grüße", folder: {} };
  await tour.read(async () => {
    const at = `${tour.tls}${base}v1.0`;
    const write = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(folder) };
    const content = new BatchRequestContent([
      { id: "1", request: new Request(`${at}${ROOT}/children?$top=2`, { method: "GET" }) },
      { id: "2", request: new Request(`${at}${ROOT}/children`, write), dependsOn: ["1"] },
    ]);
    const answers = new BatchResponseContent(await graph.api("/$batch").post(await content.getContent()));
    const [page, made] = [await answers.getResponseById("1").json(), await answers.getResponseById("2").json()];
    const rest = await graph.api(page["@odata.nextLink"]).get();
    return [...[...page.value, ...rest.value].map(({ name }) => name), made.name];
  }, ["a", "b", "c", "Grüße"]);
  await tour.write(async () => (await graph.api(`${ROOT}/children`).post(folder)).name, "Grüße");
  await tour.pages(async () => {
    const names = [];
    const first = await graph.api(`${ROOT}/children`).top(2).get();
    await new PageIterator(graph, first, ({ name }) => names.push(name)).iterate();
    return names;
  }, ["a", "b", "c"]);
  await tour.upload(async () => (await graph.api(`${ROOT}:/small:/content`).put(Buffer.from("Grüße\n"))).name, "small");
  await tour.upload(async () => {
    const session = await OneDriveLargeFileUploadTask.createUploadSession(graph, `${ROOT}:/big:/createUploadSession`, {});
    const file = new FileUpload(BIG, "big", BIG.length);
    const task = new OneDriveLargeFileUploadTask(graph, file, session, { rangeSize: 320 * 1024 });
    return (await task.upload()).responseBody.name;
  }, "big");
}

export async function refuse(tour, base) {
  const graph = at(tour, base, tour.narrow);
  await tour.refused(() => graph.api(`${ROOT}/children`).post({ name: "no", folder: {} }), "GraphError");
}
