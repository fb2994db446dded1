// @slack/web-api with a token given per call: it stands in the header and in the form.
import { LogLevel, WebClient } from "@slack/web-api";

import { Recording } from "./recording.mjs";

const told = new Recording("@slack/web-api", ({ code, data, statusCode }) => ({ code, body: data, status: statusCode }));
const message = { channel: "C012AB3CD", text: "Grüße & <ciao> 50% + 1 = ✓" };
const client = new WebClient(undefined, {
  slackApiUrl: `${told.base}/slack/api/`,
  logLevel: LogLevel.ERROR,
  retryConfig: { retries: 0 }, // the SDK would repeat a 401 for half an hour
});
await told.step("form", () => client.auth.test({ token: told.key }));
await told.step("write", () => client.chat.postMessage({ token: told.key, ...message }));
await told.step("refused", () => client.chat.postMessage({ ...message, token: told.narrow }));
await told.step("stranger", () => client.auth.test({ token: told.stranger }));
told.tell();
