// @discordjs/rest: adds /v10 by itself.
import { REST } from "@discordjs/rest";

export const sdk = { package: "@discordjs/rest", bases: ["/discord/api", "/discord"] };
const at = (api, key) => new REST({ api, version: "10", retries: 0 }).setToken(key);

export async function use(tour, base) {
  const rest = at(tour.http + base, tour.key);
  await tour.read(async () => (await rest.get("/users/@me")).username, "Nelly");
  await tour.write(async () => (await rest.post("/channels/1/messages", { body: { content: "Grüße" } })).content, "Grüße");
  await tour.pages(async () => {
    const [path, limit] = ["/channels/1/messages", { limit: "2" }];
    const first = await rest.get(path, { query: new URLSearchParams(limit) });
    const rest_ = await rest.get(path, { query: new URLSearchParams({ ...limit, before: first.at(-1).id }) });
    return [...first, ...rest_].map(({ id }) => id);
  }, ["9007199254740996", "9007199254740995", "9007199254740994"]);
  const files = [{ name: "a.txt", data: Buffer.from("Grüße\n"), contentType: "text/plain" }];
  await tour.upload(async () => (await rest.post("/channels/1/messages", { files })).attachments[0].filename, "a.txt");
}

export async function refuse(tour, base) {
  const rest = at(tour.http + base, tour.narrow);
  await tour.refused(() => rest.post("/channels/1/messages", { body: { content: "no" } }), "DiscordAPIError");
}
