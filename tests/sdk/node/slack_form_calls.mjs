// @slack/web-api with a token given per call: it stands in the header and in the form.
import { LogLevel, WebClient } from "@slack/web-api";

import { Recording } from "./recording.mjs";

const told = new Recording("@slack/web-api");
const client = new WebClient(undefined, { slackApiUrl: `${told.base}/slack/api/`, logLevel: LogLevel.ERROR });
await told.step("form", () => client.auth.test({ token: told.key }));
told.tell();
