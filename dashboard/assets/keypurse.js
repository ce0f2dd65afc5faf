// What is nicer with scripts; every page works without them.
"use strict";

// Copy buttons appear only where they can work. Without TLS there is no
// navigator.clipboard, but what is selected can be copied.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    const said = document.querySelector("[data-copied]");
    let copied = false;
    try {
      await navigator.clipboard.writeText(field.value);
      copied = true;
    } catch {
      field.select();
      copied = document.execCommand("copy");
    }
    said.textContent = copied ? "Copied." : "It is selected: copy it with your keyboard.";
  });
}
for (const field of document.querySelectorAll("[data-select]")) {
  field.addEventListener("focus", () => field.select());
}

// A page with a token is not kept by the browser to come back to.
if (document.getElementById("token")) {
  addEventListener("pagehide", () => {
    for (const field of document.querySelectorAll("[data-select]")) field.value = "";
  });
}

// Whoever fills a field that belongs to a choice makes the choice.
for (const box of document.querySelectorAll("[data-chooses]")) {
  box.addEventListener("input", () => {
    const { chooses, value } = box.dataset;
    document.querySelector(`input[name="${chooses}"][value="${value}"]`).checked = true;
  });
}

// Time zones are suggested where the browser knows them.
if (Intl.supportedValuesOf) {
  const list = document.createElement("datalist");
  list.id = "zones";
  for (const field of document.querySelectorAll("input[name^=zone]")) {
    if (!list.isConnected) {
      list.append(...Intl.supportedValuesOf("timeZone").map((zone) => new Option(zone, zone)));
      document.body.append(list);
    }
    field.setAttribute("list", list.id);
  }
}

// What is wrong with a form is read first.
document.getElementById("wrong")?.focus();

// Advice on a name, while it is typed.
for (const form of document.querySelectorAll("[data-advice]")) {
  const name = form.elements.name, out = form.querySelector("[data-advice-text]");
  let timer, asked = 0;
  name?.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++asked;
      try {
        const answer = await fetch(form.dataset.advice + "?name=" + encodeURIComponent(name.value));
        const text = answer.ok ? await answer.text() : "";
        if (mine === asked) out.textContent = text;
      } catch { /* advice is no must */ }
    }, 250);
  });
}

// An export shows how far it is.
for (const link of document.querySelectorAll("[data-export]")) {
  link.addEventListener("click", async (event) => {
    const said = link.parentElement.querySelector("[data-progress]");
    if (!said || !window.ReadableStream) return;
    event.preventDefault();
    if (link.getAttribute("aria-busy") === "true") return;
    link.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(link.href);
      if (!answer.ok) throw new Error(answer.statusText);
      const reader = answer.body.getReader(), parts = [];
      let rows = -1, last = 0; // the first line names the columns
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        parts.push(value);
        for (const byte of value) if (byte === 10) rows++;
        if (Date.now() - last > 500) {
          last = Date.now();
          said.textContent = Math.max(rows, 0) + " rows so far";
        }
      }
      const url = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
      const a = document.createElement("a");
      const named = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "");
      a.href = url;
      a.download = named ? named[1] : "export.csv";
      a.click();
      URL.revokeObjectURL(url);
      said.textContent = "Done: " + Math.max(rows, 0) + " rows.";
    } catch {
      said.textContent = "The export broke off; nothing was saved. Try again.";
    } finally {
      link.removeAttribute("aria-busy");
    }
  });
}
