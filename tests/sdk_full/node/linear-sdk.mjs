// @linear/sdk: calls exactly the address that it is given; the key goes without a scheme.
import { LinearClient } from "@linear/sdk";

export const sdk = {
  package: "@linear/sdk",
  bases: ["/linear/graphql", "/linear/"],
  without: { upload: "it hands its user a presigned address" },
};

export async function use(tour, base) {
  const linear = new LinearClient({ apiKey: tour.key, apiUrl: tour.http + base });
  await tour.read(async () => (await linear.viewer).name, "Grace ✓");
  await tour.read(async () => (await new LinearClient({ accessToken: tour.key, apiUrl: tour.http + base }).viewer).id, "u-1");
  await tour.write(async () => (await linear.createIssue({ teamId: "t", title: "Grüße" })).success, true);
  const ids = async () => {
    const found = await linear.issues({ first: 2 });
    while (found.pageInfo.hasNextPage) await found.fetchNext();
    return found.nodes.map(({ id }) => id);
  };
  await tour.pages(ids, ["i-1", "i-2", "i-3"]);
}

export async function refuse(tour, base) {
  const linear = new LinearClient({ apiKey: tour.narrow, apiUrl: tour.http + base });
  await tour.refused(() => linear.createIssue({ teamId: "t", title: "no" }), "UnknownLinearError");
}
