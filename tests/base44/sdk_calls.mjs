// What a backend function does with @base44/sdk, unmodified: asked on standard input, told on standard output.
import { readFileSync, writeSync } from "node:fs";

import { createClient, createClientFromRequest } from "@base44/sdk";

const task = JSON.parse(readFileSync(0, "utf8"));
const manifest = new URL("./node_modules/@base44/sdk/package.json", import.meta.url);
const steps = {};

async function step(name, call) {
  try {
    steps[name] = { value: (await call()) ?? null };
  } catch (error) {
    const { name: type, message, status, code, data, originalError } = error;
    const retryAfter = originalError?.response?.headers?.["retry-after"] ?? null;
    steps[name] = { error: { type, message, status, code, data, retryAfter } };
  }
}

const connectors = (serviceToken, appId = task.app) =>
  createClient({ serverUrl: task.url, appId, serviceToken }).asServiceRole.connectors;
const good = connectors(task.key);

// The documentation's three ways: a token, its configuration, and the deprecated call.
await step("connection", () => good.getConnection("slack"));
await step("config", () => good.getConnection("salesforce"));
await step("deprecated", () => good.getAccessToken("slack"));
await step("workspace", () => good.getWorkspaceConnection(task.connection));
await step("hundred", async () => {
  const all = await Promise.all(Array.from({ length: 20 }, () => good.getConnection("slack")));
  return [...new Set(all.map((one) => one.accessToken))];
});

// A function as it is deployed: everything comes from the request's own headers.
const headers = {
  "Base44-App-Id": task.app,
  "Base44-Api-Url": task.url,
  "Base44-Service-Authorization": `Bearer ${task.key}`,
  Authorization: "Bearer eyJhbGciOiJIUzI1NiJ9.e30.user",
  "Base44-State": "state-1",
};
const request = new Request("http://localhost/functions/f", { headers });
await step("from request", () => createClientFromRequest(request).asServiceRole.connectors.getConnection("slack"));

// A request that the server makes with the token, which never comes here.
const request1 = { method: "POST", path: "/things", query: { q: "a b" }, body: { name: "Ada" } };
await step("call", () => good.callApi("probe", request1));
await step("call refused", () => good.callApi("probe", { path: "/oauth/token", method: "POST" }));
await step("call not permitted", () => connectors(task.narrow).callApi("probe", { path: "/things" }));
await step("call not connected", () => good.callApi("notion", { path: "/users/me" }));

await step("not connected", () => good.getConnection("notion"));
await step("unknown", () => good.getConnection("slak"));
await step("escaping", () => good.getConnection("../../other/external-auth/tokens/slack"));
await step("not permitted", () => connectors(task.narrow).getConnection("salesforce"));
await step("proxy key", () => connectors(task.proxy).getConnection("slack"));
await step("stranger", () => connectors(task.stranger).getConnection("slack"));
await step("other app", () => connectors(task.key, "another").getConnection("slack"));
await step("reconnect", () => good.getConnection("github"));
await step("app user", () => good.getCurrentAppUserConnection("abc"));
const user = createClient({ serverUrl: task.url, appId: task.app, token: "eyJhbGciOiJIUzI1NiJ9.e30.user" });
await step("connect app user", () => user.connectors.connectAppUser("abc"));
await step("entities", () => createClient({ serverUrl: task.url, appId: task.app, token: task.key }).entities.Task.list());

writeSync(1, JSON.stringify({ version: JSON.parse(readFileSync(manifest, "utf8")).version, steps }));
