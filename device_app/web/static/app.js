// Every page: the words, the token, news from the device, keys, the menu.
"use strict";

const edge = {
  words: JSON.parse(document.getElementById("words").textContent),
  csrf: document.querySelector("meta[name=csrf]").content,

  say(key, values = {}) {
    return this.words[key].replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);
  },

  // For screen readers: what changes without being looked at.
  announce(text) {
    const live = document.getElementById("live");
    if (live.textContent !== text) live.textContent = text;
  },

  // News of the device: a stream, or, where there are too many, a question every few seconds.
  listen(told) {
    let polling = 0;
    const ask = async () => {
      try {
        const answer = await fetch("/state", { headers: { Accept: "application/json" } });
        if (answer.status === 401) return location.reload();
        if (answer.ok) told(await answer.json());
      } catch { /* it will be asked again */ }
    };
    const open = () => {
      const source = new EventSource("/events");
      source.addEventListener("state", event => told(JSON.parse(event.data)));
      source.addEventListener("open", () => { clearInterval(polling); polling = 0; ask(); });
      source.addEventListener("error", () => {
        if (!polling) polling = setInterval(ask, 4000);
        if (source.readyState === EventSource.CLOSED) setTimeout(open, 15000);
      });
      addEventListener("pagehide", () => source.close());
    };
    open();
  },
};

document.documentElement.classList.add("scripted");
for (const one of document.querySelectorAll(".needs-script")) one.hidden = false;
for (const one of document.querySelectorAll(".no-script")) one.hidden = true;

const keys = document.getElementById("keys");
const showKeys = document.getElementById("show-keys");
showKeys.hidden = false;
showKeys.addEventListener("click", () => keys.showModal());

const menu = document.querySelector(".menu");
document.addEventListener("click", event => { if (menu.open && !menu.contains(event.target)) menu.open = false; });
menu.addEventListener("keydown", event => {
  if (event.key === "Escape" && menu.open) { menu.open = false; menu.querySelector("summary").focus(); }
});

// One key, one thing; never while somebody writes.
edge.keys = {
  "?": () => keys.showModal(),
  a: () => location.assign("/add"),
  w: () => location.assign("/"),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  const at = event.target;
  const writing = at.matches("textarea, input:not([type=range], [type=radio], [type=file])");
  const arrows = event.key.startsWith("Arrow") && at.matches("input");
  if (writing || arrows) return;
  const found = edge.keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (found && found(event) !== false) event.preventDefault();
});
