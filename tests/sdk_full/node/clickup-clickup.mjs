// clickup.js: joins paths to its address as an address, so that this has to end in a slash.
import { createClickup } from "clickup.js";

export const sdk = { package: "clickup.js", bases: ["/clickup/api/", "/clickup/"] };
const at = (prefixUrl, token) => createClickup({ token, request: { prefixUrl } });

export async function use(tour, base) {
  const clickup = at(tour.http + base, tour.key);
  await tour.read(async () => (await clickup.authorization.user()).user.username, "Grace ✓");
  await tour.write(async () => (await clickup.list.createTask("1", { name: "Grüße" })).name, "Grüße");
  await tour.pages(async () => {
    const ids = [];
    for (let page = 0, last = false; !last; page += 1) {
      const found = await clickup.list.tasks("1", { page });
      ids.push(...found.tasks.map(({ id }) => id));
      last = found.last_page;
    }
    return ids;
  }, ["t1", "t2", "t3"]);
  await tour.upload(async () => {
    const form = new FormData();
    form.append("attachment", new Blob(["Grüße\n"]), "a.txt");
    return (await clickup.task.addAttachment("9hz", form)).title;
  }, "a.txt");
}

export async function refuse(tour, base) {
  await tour.refused(() => at(tour.http + base, tour.narrow).list.createTask("1", { name: "no" }), "ClickupAPIError");
}
