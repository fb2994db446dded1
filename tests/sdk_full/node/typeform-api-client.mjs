// @typeform/api-client: sends `bearer` in lower case.
import { createClient } from "@typeform/api-client";

export const sdk = { package: "@typeform/api-client", bases: ["/typeform", "/typeform@default"] };
const at = (apiBaseUrl, token) => createClient({ token, apiBaseUrl });

export async function use(tour, base) {
  const typeform = at(tour.http + base, tour.key);
  await tour.read(async () => (await typeform.forms.get({ uid: "f1" })).title, "Übung");
  const there = `${tour.http}${base}`;
  const display = "https://grace.typeform.com/to/f1";
  await tour.read(async () => (await typeform.forms.get({ uid: "f1" }))._links, { display, responses: `${there}/forms/f1/responses` });
  const saved = async () => {
    const data = await typeform.forms.get({ uid: "f1" });
    return (await typeform.forms.update({ uid: "f1", data, override: true })).workspace.href;
  };
  await tour.write(saved, `${there}/workspaces/w1`);
  await tour.write(async () => (await typeform.forms.create({ data: { title: "Grüße" } })).title, "Grüße");
  await tour.pages(async () => {
    const ids = [];
    for (let page = 1, last = 1; page <= last; page += 1) {
      const { items, page_count: count } = await typeform.forms.list({ page, pageSize: 2 });
      ids.push(...items.map(({ id }) => id));
      last = count;
    }
    return ids;
  }, ["f1", "f2", "f3"]);
  const image = { fileName: "a.png", image: Buffer.from("Grüße\n").toString("base64") };
  await tour.upload(async () => (await typeform.images.add(image)).file_name, "a.png");
}

export async function refuse(tour, base) {
  await tour.refused(() => at(tour.http + base, tour.narrow).forms.create({ data: { title: "no" } }), "Error");
}
