// jsforce: follows `identity` with the key in the header and in the query; its bulk2 drops the path of the base.
import { Connection } from "jsforce";

export const sdk = { package: "jsforce", bases: ["/salesforce", ""] };
const at = (instanceUrl, accessToken) => new Connection({ instanceUrl, accessToken, version: "59.0", maxRequest: 1 });

export async function use(tour, base) {
  const salesforce = at(tour.http + base, base ? tour.key : tour.rooted);
  await tour.read(async () => (await salesforce.sobject("Account").retrieve("001")).Name, "Übung");
  await tour.read(async () => (await salesforce.identity()).user_id, "005000000000001AAA");
  await tour.write(async () => (await salesforce.sobject("Account").create({ Name: "Grüße" })).success, true);
  const ids = async () => {
    const { records } = await salesforce.query("SELECT Id FROM Account", { autoFetch: true, maxFetch: 10 });
    return records.map(({ Id: id }) => id);
  };
  await tour.pages(ids, ["001", "002", "003"]);
  if (base) return; // with a path in its base bulk2 needs a listener, a virtual host or a key made for the service
  await tour.upload(async () => {
    const job = salesforce.bulk2.createJob({ operation: "insert", object: "Account" });
    await job.open();
    await job.uploadData([{ Name: "Grüße" }]);
    await job.close();
    return (await job.check()).numberRecordsProcessed;
  }, 1);
}

export async function refuse(tour, base) {
  const salesforce = at(tour.http + base, tour.narrow);
  await tour.refused(() => salesforce.sobject("Account").create({ Name: "no" }), "HttpApiError");
}
