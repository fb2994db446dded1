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

setUpCopies(document);
setUpAdditions();
setUpValidation();
setUpFilters();
setUpRefreshes();
setUpMenu();
