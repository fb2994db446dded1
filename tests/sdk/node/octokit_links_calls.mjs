// @octokit/rest: pages by the links between them, and a release's own address for its assets.
import { Octokit } from "@octokit/rest";

import { Recording } from "./recording.mjs";

const [owner, repo] = ["octocat", "Hello-World"];
const told = new Recording("@octokit/rest", ({ status }) => ({ status }));
const silent = { debug() {}, info() {}, warn() {}, error() {} };

for (const [style, base] of [
  ["origin", `${told.base}/github`],
  ["enterprise", `${told.base}/github/api/v3`],
]) {
  const octokit = new Octokit({ auth: told.key, baseUrl: base, log: silent });
  await told.step(`${style} pages`, async () => {
    const issues = await octokit.paginate(octokit.rest.issues.listForRepo, { owner, repo, per_page: 2 });
    return issues.map(({ number }) => number);
  });
  await told.step(`${style} asset`, async () => {
    const { data: release } = await octokit.rest.repos.getRelease({ owner, repo, release_id: 1 });
    const url = release.upload_url;
    const asset = { name: "a b.zip", data: Buffer.from("zip"), headers: { "content-type": "application/zip" } };
    const { data } = await octokit.rest.repos.uploadReleaseAsset({ url, ...asset });
    return data.name;
  });
}
told.tell();
