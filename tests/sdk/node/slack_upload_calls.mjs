// @slack/web-api: an upload. It sends its credential along to whatever address the first step answers with.
import { LogLevel, WebClient } from "@slack/web-api";

import { Recording } from "./recording.mjs";

const told = new Recording("@slack/web-api");
for (const [style, slackApiUrl] of [
  ["base", `${told.base}/slack/api/`],
  ["origin", `${told.base}/slack/`],
]) {
  const client = new WebClient(told.key, { slackApiUrl, logLevel: LogLevel.ERROR });
  await told.step(`${style} upload`, async () => {
    const file = Buffer.from("Grüße\n");
    const { files } = await client.filesUploadV2({ channel_id: "C012AB3CD", file, filename: "a.txt" });
    return files.flatMap((each) => each.files);
  });
}
told.tell();
