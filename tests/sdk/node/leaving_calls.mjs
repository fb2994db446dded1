// What goes wrong without a base URL: SDKs that call their vendors' hosts, to prove that the trap holds them.
import dns from "node:dns/promises";
import https from "node:https";

import { Octokit } from "@octokit/rest";
import { LogLevel, WebClient } from "@slack/web-api";

import { Recording } from "./recording.mjs";

const told = new Recording("@octokit/rest");
const silent = { debug() {}, info() {}, warn() {}, error() {} };
await told.step("octokit", () => new Octokit({ auth: told.key, log: silent }).rest.users.getAuthenticated());
const slack = new WebClient(told.key, { logLevel: LogLevel.ERROR, retryConfig: { retries: 0 } });
await told.step("slack", () => slack.auth.test());
await told.step(
  "https",
  () => new Promise((resolve, reject) => https.get("https://files.slack.com/", resolve).on("error", reject)),
);
await told.step("dns", () => dns.lookup("www.googleapis.com"));
await told.step("address", () => fetch("http://192.0.2.1/"));
await told.step("other port", () => fetch("http://127.0.0.1:9999/"));
told.tell();
