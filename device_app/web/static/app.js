// Code of every page: texts, CSRF token, live events, keyboard shortcuts, the menu.
"use strict";

const edge = {
  words: JSON.parse(document.getElementById("words").textContent),
  csrf: document.querySelector("meta[name=csrf]").content,

  say(key, values = {}) {
    return this.words[key].replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);
  },

  // Announces a change to screen readers.
  announce(text) {
    const live = document.getElementById("live");
    if (live.textContent !== text) live.textContent = text;
  },

  // Calls `update` with each new state of the device: from a stream of events, or by polling if there are too many
  // streams.
  listen(update) {
    let polling = 0;
    const ask = async () => {
      try {
        const answer = await fetch("/state", { headers: { Accept: "application/json" } });
        if (answer.status === 401) return location.reload();
        if (answer.ok) update(await answer.json());
      } catch { /* The next poll tries again. */ }
    };
    const open = () => {
      const source = new EventSource("/events");
      source.addEventListener("state", event => update(JSON.parse(event.data)));
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
for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
for (const element of document.querySelectorAll(".no-script")) element.hidden = true;

const keys = document.getElementById("keys");
const showKeys = document.getElementById("show-keys");
showKeys.hidden = false;
showKeys.addEventListener("click", () => keys.showModal());

const menu = document.querySelector(".menu");
document.addEventListener("click", event => { if (menu.open && !menu.contains(event.target)) menu.open = false; });
menu.addEventListener("keydown", event => {
  if (event.key === "Escape" && menu.open) { menu.open = false; menu.querySelector("summary").focus(); }
});

// Keyboard shortcuts; they are off while the user types.
edge.keys = {
  "?": () => keys.showModal(),
  a: () => location.assign("/add"),
  w: () => location.assign("/"),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  const target = event.target;
  const typing = target.matches("textarea, input:not([type=range], [type=radio], [type=file])");
  const arrows = event.key.startsWith("Arrow") && target.matches("input");
  if (typing || arrows) return;
  const action = edge.keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action && action(event) !== false) event.preventDefault();
});
