// @octokit/graphql: one address; clients made for GitHub Enterprise use another one.
import { graphql } from "@octokit/graphql";

export const sdk = {
  package: "@octokit/graphql",
  bases: ["/github", "/github/api"],
  without: { upload: "GraphQL has none" },
};
const ISSUES = `query ($after: String) { repository(owner: "octocat", name: "Hello-World") {
  issues(first: 2, after: $after) { nodes { number } pageInfo { hasNextPage endCursor } } } }`;
const STAR = "mutation ($id: ID!) { addStar(input: { starrableId: $id }) { starrable { id } } }";
const at = (baseUrl, key) => graphql.defaults({ baseUrl, headers: { authorization: `token ${key}` } });

export async function use(tour, base) {
  const ask = at(tour.http + base, tour.key);
  await tour.read(async () => (await ask("{ viewer { login } }")).viewer.login, "octocat");
  await tour.write(async () => (await ask(STAR, { id: "R_1" })).addStar.starrable.id, "R_1");
  await tour.pages(async () => {
    const numbers = [];
    for (let after = null, more = true; more; ) {
      const { nodes, pageInfo } = (await ask(ISSUES, { after })).repository.issues;
      numbers.push(...nodes.map(({ number }) => number));
      [after, more] = [pageInfo.endCursor, pageInfo.hasNextPage];
    }
    return numbers;
  }, [1, 2, 3]);
}

export async function refuse(tour, base) {
  await tour.refused(() => at(tour.http + base, tour.narrow)(STAR, { id: "R_1" }), "RequestError");
}
