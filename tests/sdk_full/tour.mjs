// The same as tour.py, for the scenarios of node/. One exports `sdk` ({ package, bases, without }), use() and refuse().
import { readFileSync, readSync, writeSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

const MESSAGE = "the key has no permit for this call";

class Tour {
  constructor(task) {
    Object.assign(this, task); // http, tls, key, narrow, rooted
    this.base = "";
    this.steps = [];
  }

  read(call, expected) {
    return this.#step("read", call, expected);
  }

  write(call, expected) {
    return this.#step("write", call, expected);
  }

  pages(call, expected) {
    return this.#step("pages", call, expected);
  }

  upload(call, expected) {
    return this.#step("upload", call, expected);
  }

  async refused(call, kind, { where = "", look = (error) => error.message } = {}) {
    try {
      this.#note("refused", false, `returned ${JSON.stringify(await call())}`);
    } catch (error) {
      const type = error.constructor.name;
      const found = look(error);
      const passed = type === kind && found.includes(MESSAGE) && !(where && error.message.includes(MESSAGE));
      this.#note("refused", passed, `${type}: ${error.message}; ${found}`);
      this.steps.at(-1).aside = where;
    }
  }

  async #step(kind, call, expected) {
    try {
      const value = await call();
      this.#note(kind, isDeepStrictEqual(value, expected), JSON.stringify(value) ?? "undefined");
    } catch (error) {
      this.#note(kind, false, `${error?.stack ?? JSON.stringify(error)} ${JSON.stringify(error?.response?.data ?? error?.body ?? "")}`);
    }
  }

  #note(kind, passed, told) {
    this.steps.push({ kind, base: this.base, passed, told });
  }
}

async function run(task) {
  const scenario = await import(new URL(`node/${task.name}.mjs`, import.meta.url));
  const { package: distribution, bases, without = {} } = scenario.sdk;
  const tour = new Tour(task);
  for (const base of bases) {
    tour.base = base;
    await scenario.use(tour, base);
  }
  tour.base = bases[0];
  await scenario.refuse(tour, tour.base);
  const manifest = new URL(`node_modules/${distribution}/package.json`, import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8"));
  return { package: distribution, version, without, steps: tour.steps };
}

function line() {
  const [parts, one] = [[], Buffer.alloc(1)];
  while (readSync(0, one) && one[0] !== 10) parts.push(one[0]);
  return Buffer.from(parts).toString();
}

for (let task = line(); task; task = line()) {
  const outcome = await run(JSON.parse(task)).catch((error) => ({ broken: `${error?.stack ?? error}` }));
  writeSync(Number(process.argv[2]), `${JSON.stringify(outcome)}\n`);
}
process.exit(0);
