// The server of support.providers.oidc, whole: oidc-provider, its one page, and what tests ask and set.
// node oidc_server.mjs READY CLIENT_ID CLIENT_SECRET REDIRECT_URI
// A person signs in and agrees on one page; with X-Scripted-User neither is needed.
import { randomBytes } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import Provider from "oidc-provider";

const [ready, clientId, clientSecret, redirectUri] = process.argv.slice(2);
const PASSWORD = "wonderland";
const redirects = new Set([redirectUri]);
const settings = { access_lifetime_s: 3600, before_s: 0, after_s: 0 };
const counts = {};
const secrets = []; // what went over the token endpoint, both ways, in order
const SECRET_FIELDS = ["code", "code_verifier", "client_secret", "refresh_token", "access_token", "id_token"];

// --- storage: the shipped one forgets after a thousand entries ---------------------------------------------

const stored = new Map();

class Adapter {
  constructor(model) {
    this.model = model;
  }
  key(id) {
    return `${this.model}:${id}`;
  }
  async upsert(id, payload) {
    stored.set(this.key(id), payload);
  }
  async find(id) {
    return stored.get(this.key(id));
  }
  async findByUid(uid) {
    for (const [key, payload] of stored) {
      if (key.startsWith(`${this.model}:`) && payload.uid === uid) return payload;
    }
  }
  async findByUserCode() {}
  async consume(id) {
    stored.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    stored.delete(this.key(id));
  }
  async revokeByGrantId(grantId) {
    for (const [key, payload] of stored) {
      if (key.startsWith(`${this.model}:`) && payload.grantId === grantId) stored.delete(key);
    }
  }
}

// --- the server --------------------------------------------------------------------------------------------

const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address();

const provider = new Provider(`http://127.0.0.1:${port}`, {
  adapter: Adapter,
  clients: [
    {
      client_id: clientId,
      client_secret: clientSecret,
      client_name: "Connector proxy",
      redirect_uris: [redirectUri],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "client_secret_basic",
    },
  ],
  cookies: { keys: [randomBytes(16).toString("hex")] },
  scopes: ["openid", "offline_access", "read", "write"],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
  findAccount: async (_ctx, sub) => ({ accountId: sub, claims: async () => claimsOf(sub) }),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  ttl: {
    AccessToken: () => settings.access_lifetime_s,
    AuthorizationCode: 60,
    Grant: 14 * 86400,
    IdToken: 3600,
    Interaction: 600,
    RefreshToken: 14 * 86400,
    Session: 86400,
  },
});
provider.Client.prototype.redirectUriAllowed = (uri) => redirects.has(uri);
provider.use(async (ctx, next) => {
  await next();
  if (ctx.path !== "/token") return;
  const told = { ...ctx.req.body, ...ctx.body };
  for (const name of SECRET_FIELDS) if (told[name]) secrets.push([name, told[name]]);
  count(ctx.req.body?.grant_type, "waiting", -1);
  count(ctx.req.body?.grant_type, String(ctx.status), 1);
  await sleep(settings.after_s * 1000);
});
const answerOfProvider = provider.callback();

function claimsOf(sub) {
  return { sub, name: sub, email: `${sub}@example.com`, email_verified: !sub.startsWith("unverified") };
}

function count(grant, status, by) {
  counts[grant] ??= {};
  counts[grant][status] = (counts[grant][status] ?? 0) + by;
  if (!counts[grant][status]) delete counts[grant][status];
}

// --- its page ----------------------------------------------------------------------------------------------

const page = (uid, scopes) => `<!doctype html><title>Allow access?</title>
<h1>Connector proxy wants access</h1><p>${scopes}</p><form method="post" action="/interaction/${uid}">
<p>Name <input name="username"></p><p>Password <input name="password" type="password"></p>
<button id="deny" name="answer" value="no">Cancel</button><button id="allow" name="answer" value="yes">Allow</button>
</form>`;

async function decide(request, response, user, allowed) {
  if (!allowed) {
    const refusal = { error: "access_denied", error_description: "the person declined" };
    return provider.interactionFinished(request, response, refusal);
  }
  const { params } = await provider.interactionDetails(request, response);
  const grant = new provider.Grant({ accountId: user, clientId });
  grant.addOIDCScope(params.scope);
  const result = { login: { accountId: user }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result);
}

async function interact(request, response) {
  const scripted = request.headers["x-scripted-user"];
  if (scripted) return decide(request, response, scripted, request.headers["x-scripted-answer"] === "yes");
  if (request.method === "POST") {
    const form = Object.fromEntries(new URLSearchParams(await bodyOf(request)));
    if (form.answer === "yes" && form.password !== PASSWORD) return answer(response, 403, { error: "password" });
    return decide(request, response, form.username, form.answer === "yes");
  }
  const { uid, params } = await provider.interactionDetails(request, response);
  response.writeHead(200, { "Content-Type": "text/html" }).end(page(uid, params.scope.replace(/[^\w ]/g, "")));
}

// --- the service behind it, and what tests ask and set -----------------------------------------------------

async function me(request, response) {
  const token = await provider.AccessToken.find((request.headers.authorization ?? "").slice("Bearer ".length));
  if (!token) return answer(response, 401, { error: "invalid_token" });
  answer(response, 200, { id: token.accountId, name: token.accountId, scope: token.scope });
}

// A grant lives while one of its refresh tokens is not spent; a spent one that comes back deletes them all.
async function alive(value) {
  const token = await provider.RefreshToken.find(value, { ignoreExpiration: true });
  if (!token) return false;
  return [...stored].some(
    ([key, one]) => key.startsWith("RefreshToken:") && one.grantId === token.grantId && !one.consumed,
  );
}

const controls = {
  settings: (wanted) => {
    const unknown = Object.keys(wanted).filter((name) => !(name in settings));
    if (unknown.length) throw new Error(`oidc-provider has no ${unknown}`);
    Object.assign(settings, wanted);
    return {};
  },
  redirects: ({ uri }) => {
    redirects.add(uri);
    return {};
  },
  counts: () => counts,
  secrets: () => ({ secrets }),
  alive: async ({ refresh_token: token }) => ({ alive: await alive(token) }),
};

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

function answer(response, status, document) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(document));
}

async function handle(request, response) {
  const path = request.url.split("?")[0];
  if (path.startsWith("/interaction/")) return interact(request, response);
  if (path === "/api/me") return me(request, response);
  if (path.startsWith("/_control/")) {
    const control = controls[path.slice("/_control/".length)];
    return answer(response, 200, await control(JSON.parse(await bodyOf(request))));
  }
  if (path === "/token") {
    request.body = Object.fromEntries(new URLSearchParams(await bodyOf(request))); // read here to be counted at once
    count(request.body.grant_type, "waiting", 1);
    await sleep(settings.before_s * 1000);
  }
  return answerOfProvider(request, response);
}

server.on("request", (request, response) => {
  handle(request, response).catch((error) => {
    if (!response.headersSent) answer(response, 500, { error: String(error) });
  });
});
writeFileSync(`${ready}.new`, JSON.stringify({ pid: process.pid, port }));
renameSync(`${ready}.new`, ready);
