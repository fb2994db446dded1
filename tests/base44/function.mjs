// Runs a backend function as a local runtime would: its code and its request's headers are on standard input.
import { readFileSync, writeSync } from "node:fs";

const { code, headers } = JSON.parse(readFileSync(0, "utf8"));
const here = code.replace("npm:@base44/sdk", import.meta.resolve("@base44/sdk"));
const { default: handler } = await import(`data:text/javascript,${encodeURIComponent(here)}`);
const response = await handler(new Request("http://localhost/functions/f", { headers }));
writeSync(1, await response.text());
