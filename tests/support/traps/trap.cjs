// Loaded before an SDK: this process may reach the addresses of SDK_ALLOWED and nothing else.
//
// Every look-up of node:dns and every connect of a socket passes here, whoever calls it (node:http, fetch's
// undici, TLS). What is meant for elsewhere is written to the file SDK_TRAP and fails, so that it is a
// finding, not traffic.
"use strict";
const dns = require("node:dns");
const fs = require("node:fs");
const net = require("node:net");

const places = process.env.SDK_ALLOWED.split(","); // all on one host
const home = places[0].split(":")[0];

function trapped(what, target) {
  fs.appendFileSync(process.env.SDK_TRAP, `${what} ${target}\n`);
  return new Error(`trapped: ${what} ${target}`);
}

for (const name of Object.keys(dns).filter((key) => /^(lookup|resolve|reverse)/.test(key))) {
  const real = dns[name];
  dns[name] = function (host, ...rest) {
    if (host === home) return real.call(this, host, ...rest);
    const error = trapped(`dns.${name}`, host);
    process.nextTick(rest.at(-1), error);
  };
}
for (const name of Object.keys(dns.promises).filter((key) => /^(lookup|resolve|reverse)/.test(key))) {
  const real = dns.promises[name];
  dns.promises[name] = async function (host, ...rest) {
    if (host === home) return real.call(this, host, ...rest);
    throw trapped(`dns.promises.${name}`, host);
  };
}

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const first = Array.isArray(args[0]) ? args[0][0] : args[0];
  const to = first !== null && typeof first === "object" ? first : { port: first, host: args[1] };
  const host = to.path ?? to.host ?? "localhost";
  if (!places.includes(`${host}:${to.port}`)) {
    const error = trapped("connect", `${host}:${to.port}`);
    process.nextTick(() => this.destroy(error));
    return this;
  }
  return connect.apply(this, args);
};
