// What pages do besides links and forms; all of them work without it. No text from outside becomes HTML here.
"use strict";

function setUpCopies(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
      const before = button.firstChild.textContent;
      button.firstChild.textContent = "Copied";
      setTimeout(() => { button.firstChild.textContent = before; }, 1500);
    });
  }
}

// The rule of a service's file, judged as the server does (proxy.catalog.params).
function faultOf(input) {
  let value = input.value.trim();
  if (!value) return "";
  if (input.dataset.prefix && !value.includes("://")) value = input.dataset.prefix + value;
  if ("lower" in input.dataset) value = value.toLowerCase();
  if (new RegExp(`^(?:${input.dataset.pattern})$`).test(value)) return "";
  return "This does not have the right form" + (input.dataset.example ? `, for example ${input.dataset.example}.` : ".");
}

function setUpValidation() {
  for (const input of document.querySelectorAll("input[data-pattern]")) {
    const told = document.getElementById(`${input.id}-fault`);
    const judge = (isLast) => {
      const fault = faultOf(input);
      input.setCustomValidity(fault);
      if (isLast || !fault || told.textContent) {
        told.textContent = fault;
        input.setAttribute("aria-invalid", String(Boolean(fault)));
      }
    };
    let timer;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      judge(false);
      timer = setTimeout(judge, 600, true);
    });
    input.addEventListener("change", () => judge(true));
  }
}

function setUpFilters() {
  for (const input of document.querySelectorAll("input[data-filter]")) {
    const list = document.getElementById(input.dataset.filter);
    const count = document.getElementById(`${input.dataset.filter}-count`);
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      for (const item of list.children) {
        item.hidden = !item.dataset.text.includes(wanted);
        shown += item.hidden ? 0 : 1;
      }
      count.textContent = `${shown} ${shown === 1 ? count.dataset.one : count.dataset.many}`;
    });
  }
  for (const select of document.querySelectorAll("form[method=get] select")) {
    select.addEventListener("change", () => select.form.requestSubmit());
  }
}

// Parts of a page that the server renders anew every few seconds, while somebody can see them.
function setUpRefreshes() {
  for (const part of document.querySelectorAll("[data-refresh]")) {
    setInterval(async () => {
      if (document.hidden || part.contains(document.activeElement)) return;
      const answer = await fetch(location.href, { headers: { "X-Part": part.id } }).catch(() => null);
      if (!answer || !answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById(part.id);
      if (fresh) part.replaceChildren(...fresh.childNodes);
    }, Number(part.dataset.refresh) * 1000);
  }
}

function setUpMenu() {
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
}

function setUpAdditions() {
  for (const button of document.querySelectorAll("button[data-add]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const copy = document.getElementById(button.dataset.add).content.cloneNode(true);
      const first = copy.querySelector("select, input");
      document.getElementById(button.dataset.to).append(copy);
      first.focus();
    });
  }
}

const SHOWN = 200;
const SPENT = [["queue", "In the proxy"], ["token", "Token"], ["connect", "Connect"], ["first_byte", "First byte"]];

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function inMilliseconds(seconds) {
  return seconds === null ? "\u2013" : `${(seconds * 1000).toPrecision(3)} ms`;
}

function barOf(spent) {
  const space = "http://www.w3.org/2000/svg";
  const bar = document.createElementNS(space, "svg");
  const set = (element, values) => Object.entries(values).forEach(([name, value]) => element.setAttribute(name, value));
  set(bar, { class: "spent", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
  let x = 0;
  const known = SPENT.map(([name]) => [name.split("_")[0], spent[name] || 0]);
  const rest = Math.max(0, spent.total - known.reduce((sum, [, value]) => sum + value, 0));
  for (const [name, value] of [...known, ["rest", rest]]) {
    const width = spent.total ? value / spent.total * 100 : 0;
    const part = document.createElementNS(space, "rect");
    set(part, { class: name, x, y: 0, width, height: 6 });
    bar.append(part);
    x += width;
  }
  return bar;
}

function rowOf(one, names) {
  const tone = one.status >= 500 ? "bad" : one.status >= 400 ? "warn" : "good";
  const facts = make("dl", { className: "facts" });
  const tell = (name, value) => facts.append(make("dt", {}, name), make("dd", {}, String(value)));
  SPENT.forEach(([name, word]) => tell(word, inMilliseconds(one.spent[name])));
  tell("Total", inMilliseconds(one.spent.total));
  tell("Body in, out", `${one.bytes_in}, ${one.bytes_out} bytes`);
  if (one.upstream) tell("Dialled", one.upstream);
  if (one.caller) tell("Caller", one.caller);
  tell("Request id", one.request_id);
  const time = make("time", { dateTime: one.timestamp, title: one.timestamp }, new Date(one.timestamp).toLocaleTimeString());
  const account = one.connection && one.service ? `${one.service}@${one.connection}` : one.service || "";
  const cells = [
    ["Time", time],
    ["Request", make("div", { className: "request" }, make("strong", {}, one.method), " ", one.path, make("div", { className: "soft" }, account))],
    ["Key", names[one.key_id] || one.key_id || "\u2013"],
    ["Answer", make("div", {}, make("span", { className: `status ${tone}` }, String(one.status)), one.error ? ` ${one.error}` : one.status >= 400 ? " by the service" : "", one.observed ? make("div", { className: "soft" }, `would be refused: ${one.observed}`) : "")],
    ["Total", inMilliseconds(one.spent.total)],
    ["Time went", make("details", {}, make("summary", {}, barOf(one.spent), make("span", { className: "hidden" }, "Where the time went")), facts)],
  ];
  const row = make("tr", {});
  for (const [label, content] of cells) {
    const cell = make("td", { className: label === "Total" ? "right" : "" }, content);
    cell.dataset.label = label;
    row.append(cell);
  }
  return row;
}

function setUpLive() {
  const table = document.getElementById("live");
  if (!table) return;
  const body = table.tBodies[0];
  const state = document.getElementById("live-state");
  const pause = document.getElementById("pause");
  const names = JSON.parse(table.dataset.names);
  let missed = 0;
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };
  const source = new EventSource(table.dataset.source);
  source.addEventListener("open", () => say("Watching. Make a call and it shows up here."));
  source.addEventListener("message", (event) => {
    if (pause.getAttribute("aria-pressed") === "true") return;
    const told = JSON.parse(event.data);
    missed += told.missed;
    for (const one of told.requests) body.prepend(rowOf(one, names));
    while (body.rows.length > SHOWN) body.lastChild.remove();
    if (missed) say(`Watching. ${missed} more happened than are shown.`);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) location.reload();
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    say(paused ? "Paused: what happens now is not shown." : "Watching.");
  });
}

// A form is sent once, however often its button is pressed. Back on the page, or without an answer, it can be sent again.
const ANSWER_MS = 15000;

function setUpSending() {
  const buttonsOf = (form) => form.querySelectorAll("button[type=submit]");
  const free = (form) => {
    delete form.dataset.sent;
    for (const button of buttonsOf(form)) button.disabled = false;
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.getAttribute("method") !== "post") return;
    if ("sent" in form.dataset) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "";
    for (const button of buttonsOf(form)) button.disabled = true;
    setTimeout(free, ANSWER_MS, form);
  });
  addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(free));
}

setUpSending();
setUpLive();
setUpCopies(document);
setUpAdditions();
setUpValidation();
setUpFilters();
setUpRefreshes();
setUpMenu();
