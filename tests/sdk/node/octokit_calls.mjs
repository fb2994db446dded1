// @octokit/rest: pages by number. The links between them lead to api.github.com and are not followed here.
import { Octokit } from "@octokit/rest";

import { Recording } from "./recording.mjs";

const [owner, repo] = ["octocat", "Hello-World"];
const told = new Recording("@octokit/rest", ({ status, response }) => ({
  status,
  body: response?.data,
  fields: response?.headers,
}));
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const at = (baseUrl, key) => new Octokit({ auth: key, baseUrl, log: silent }).rest;

for (const [style, base] of [
  ["origin", `${told.base}/github`],
  ["enterprise", `${told.base}/github/api/v3`],
]) {
  const rest = at(base, told.key);
  await told.step(`${style} whoami`, async () => (await rest.users.getAuthenticated()).data.login);
  await told.step(`${style} pages`, async () => {
    const titles = [];
    for (const page of [1, 2]) {
      const { data } = await rest.issues.listForRepo({ owner, repo, per_page: 2, page });
      titles.push(...data.map(({ number }) => number));
    }
    return titles;
  });
  await told.step(`${style} write`, async () => {
    const { status, data } = await rest.issues.create({ owner, repo, title: "Fehler: ä" });
    return [status, data.number, data.title];
  });
  await told.step(`${style} star`, async () => {
    const { status } = await rest.activity.starRepoForAuthenticatedUser({ owner, repo });
    return status;
  });
  await told.step(`${style} limited`, () => rest.search.repos({ q: "kale" }));
  await told.step(`${style} limited again`, async () => (await rest.search.repos({ q: "kale" })).data.total_count);
  await told.step(`${style} missing`, () => rest.repos.get({ owner, repo: "none" }));
}

const base = `${told.base}/github`;
const narrow = at(base, told.narrow);
await told.step("permitted", async () => (await narrow.users.getAuthenticated()).data.login);
await told.step("refused", () => narrow.issues.create({ owner, repo, title: "no" }));
await told.step("credential", () => at(base, told.key).users.createPublicSshKeyForAuthenticatedUser({ key: "ssh" }));
await told.step("stranger", () => at(base, told.stranger).users.getAuthenticated());
await told.step("unconnected", () => at(`${base}@nobody`, told.key).users.getAuthenticated());
told.tell();
