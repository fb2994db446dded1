// @slack/web-api: like slack_sdk, but its upload takes the key along.
import { LogLevel, WebClient } from "@slack/web-api";

export const sdk = { package: "@slack/web-api", bases: ["/slack/", "/slack/api/"] };
const [channel, text] = ["C1", "Grüße & <ciao> 50% + 1 = ✓"];
const at = (slackApiUrl, key) =>
  new WebClient(key, { slackApiUrl, logLevel: LogLevel.ERROR, retryConfig: { retries: 0 } });

export async function use(tour, base) {
  const client = at(tour.http + base, tour.key);
  await tour.read(async () => (await client.auth.test()).user_id, "W12345678");
  await tour.write(async () => (await client.chat.postMessage({ channel, text })).message.text, text);
  const names = async () => {
    const found = [];
    for await (const page of client.paginate("conversations.list", { limit: 2 })) found.push(...page.channels);
    return found.map(({ name }) => name);
  };
  await tour.pages(names, ["general", "random", "café"]);
  const file = { channel_id: channel, file: Buffer.from("Grüße\n"), filename: "a.txt" };
  const sent = async () => (await client.filesUploadV2(file)).files[0].files[0].url_private;
  await tour.upload(sent, `${tour.http}/slack/~files/files-pri/T1-F1/a.txt`);
}

export async function refuse(tour, base) {
  await tour.refused(() => at(tour.http + base, tour.narrow).chat.postMessage({ channel, text }), "WebAPIPlatformError");
}
