// @slack/web-api.
import { LogLevel, WebClient } from "@slack/web-api";

import { Recording } from "./recording.mjs";

const channel = "C012AB3CD";
const told = new Recording("@slack/web-api", ({ code, data, statusCode }) => ({
  code,
  body: data,
  status: statusCode,
}));
const at = (slackApiUrl, key) =>
  new WebClient(key, { slackApiUrl, logLevel: LogLevel.ERROR, retryConfig: { retries: 1, minTimeout: 10 } });

for (const [style, base] of [
  ["base", `${told.base}/slack/api/`],
  ["origin", `${told.base}/slack/`],
]) {
  const client = at(base, told.key);
  await told.step(`${style} whoami`, () => client.auth.test());
  await told.step(`${style} pages`, async () => {
    const names = [];
    for await (const page of client.paginate("conversations.list", { limit: 2 })) {
      names.push(...page.channels.map(({ name }) => name));
    }
    return names;
  });
  await told.step(`${style} write`, () => client.chat.postMessage({ channel, text: "Grüße & <ciao> 50% + 1 = ✓" }));
  await told.step(`${style} missing`, () => client.chat.postMessage({ channel: "C0", text: "x" }));
}

const api = `${told.base}/slack/api/`;
await told.step("limited", () =>
  at(api, told.key).reactions.add({ channel, name: "thumbsup", timestamp: "1503435956.000247" }),
);
const narrow = at(api, told.narrow);
await told.step("permitted", () => narrow.auth.test());
await told.step("refused", () => narrow.chat.postMessage({ channel, text: "no" }));
await told.step("credential", () => at(api, told.key).auth.revoke());
await told.step("stranger", () => at(api, told.stranger).auth.test());
await told.step("unconnected", () => at(`${told.base}/slackbot@nobody/api/`, told.key).auth.test());
told.tell();
