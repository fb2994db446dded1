// googleapis: its address belongs into the options of each call.
import { google } from "googleapis";

export const sdk = { package: "googleapis", bases: ["/googledrive/", "/googledrive@default/"] };

function at(key) {
  const auth = new google.auth.OAuth2();
  auth.setCredentials({ access_token: key });
  return google.drive({ version: "v3", auth, retry: false });
}

export async function use(tour, base) {
  const proxied = { rootUrl: tour.http + base };
  const drive = at(tour.key);
  const name = async (asked) => (await drive.files.create(asked, proxied)).data.name;
  await tour.read(async () => (await drive.about.get({ fields: "user" }, proxied)).data.user.displayName, "Grace ✓");
  await tour.read(async () => {
    const { data } = await drive.files.get({ fileId: "a", alt: "media" }, { ...proxied, responseType: "arraybuffer" });
    return Buffer.from(data).toString();
  }, "Grüße\n");
  await tour.write(() => name({ requestBody: { name: "Grüße" } }), "Grüße");
  await tour.pages(async () => {
    const names = [];
    for (let pageToken, more = true; more; ) {
      const { data } = await drive.files.list({ pageSize: 2, pageToken }, proxied);
      names.push(...data.files.map((file) => file.name));
      pageToken = data.nextPageToken;
      more = Boolean(pageToken);
    }
    return names;
  }, ["a", "b", "c"]);
  const media = { mimeType: "text/plain", body: "Grüße\n" };
  await tour.upload(() => name({ requestBody: { name: "Ü" }, media }), "Ü");
}

export async function refuse(tour, base) {
  const call = () => at(tour.narrow).files.create({ requestBody: { name: "no" } }, { rootUrl: tour.http + base });
  await tour.refused(call, "GaxiosError");
}
