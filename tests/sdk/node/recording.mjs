// What a program of this folder is asked to do (JSON on standard input) and what it tells (JSON on standard output).
import { readFileSync, writeSync } from "node:fs";

export class Recording {
  // base is the proxy's address; key may do everything here, narrow only look, stranger is no key of this proxy.
  constructor(distribution, details = () => ({})) {
    Object.assign(this, JSON.parse(readFileSync(0, "utf8")));
    const manifest = new URL(`../node_modules/${distribution}/package.json`, import.meta.url);
    this.version = JSON.parse(readFileSync(manifest, "utf8")).version;
    this.details = details;
    this.steps = {};
  }

  // One thing that a user of the SDK would do: keeps what it returned or raised.
  async step(name, call) {
    try {
      this.steps[name] = { value: (await call()) ?? null };
    } catch (error) {
      const { name: type, message: text } = error;
      this.steps[name] = { error: { type, text, ...this.details(error) } };
    }
  }

  tell() {
    writeSync(1, JSON.stringify({ version: this.version, steps: this.steps }));
  }
}
