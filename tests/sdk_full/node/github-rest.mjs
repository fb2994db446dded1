// @octokit/rest: pages by the Link field, an upload to the address that a release names.
import { Octokit } from "@octokit/rest";

export const sdk = { package: "@octokit/rest", bases: ["/github", "/github/api/v3"] };
const [owner, repo] = ["octocat", "Hello-World"];
const log = { debug() {}, info() {}, warn() {}, error() {} };

export async function use(tour, base) {
  const octokit = new Octokit({ auth: tour.key, baseUrl: tour.http + base, log });
  const { rest } = octokit;
  await tour.read(async () => (await rest.users.getAuthenticated()).data.login, "octocat");
  await tour.read(async () => (await rest.repos.get({ owner, repo: "old" })).data.name, "Hello-World");
  await tour.write(async () => (await rest.issues.create({ owner, repo, title: "Fehler: ä" })).data.title, "Fehler: ä");
  const numbers = async () =>
    (await octokit.paginate(rest.issues.listForRepo, { owner, repo, per_page: 2 })).map(({ number }) => number);
  await tour.pages(numbers, [1, 2, 3]);
  await tour.upload(async () => {
    const { data: release } = await rest.repos.getRelease({ owner, repo, release_id: 1 });
    const asset = { url: release.upload_url, name: "a b.zip", data: Buffer.from("zip") };
    return (await rest.repos.uploadReleaseAsset({ ...asset, headers: { "content-type": "application/zip" } })).data.name;
  }, "a b.zip");
}

export async function refuse(tour, base) {
  const { rest } = new Octokit({ auth: tour.narrow, baseUrl: tour.http + base, log });
  await tour.refused(() => rest.issues.create({ owner, repo, title: "no" }), "RequestError");
}
