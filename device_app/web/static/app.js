// Code of every page: texts, the connection to the device, forms that survive a restart, live events, keys, the menu.
"use strict";

const PING_EVERY = 2000, PING_TIMEOUT = 2500;
const offline = document.getElementById("offline"), signIn = document.getElementById("sign-in");

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
  // streams. A page that can wait a little polls from the start, and leaves the streams to others.
  listen(update, streaming = true) {
    let polling = 0;
    const ask = async () => {
      try {
        const answer = await fetch("/state", { headers: { Accept: "application/json" } });
        if (answer.status === 401) await edge.signIn();
        else if (answer.ok) update(await answer.json());
      } catch { /* The next poll tries again. */ }
    };
    const open = () => {
      const source = new EventSource("/events");
      source.addEventListener("state", event => update(JSON.parse(event.data)));
      source.addEventListener("open", () => { clearInterval(polling); polling = 0; ask(); });
      source.addEventListener("error", () => {
        ping();
        if (!polling) polling = setInterval(ask, 4000);
        if (source.readyState === EventSource.CLOSED) setTimeout(open, 15000);
      });
      addEventListener("pagehide", () => source.close());
    };
    if (streaming) return open();
    ask();
    setInterval(() => { if (!document.hidden) ask(); }, 4000);
  },

  // Resolves once the device answers, which is at once unless it is off or restarting.
  async alive() {
    while (!(await ping())) await pause(1000);
  },

  // Opens a page once the device answers: an error page of the browser would be the end of a kiosk.
  async go(address) {
    const turn = ++turns;
    await edge.alive();
    if (turn !== turns) return;
    const target = new URL(address, location.href);
    if (target.pathname + target.search === location.pathname + location.search) location.reload();
    else location.assign(target.href);
  },

  // A restarted device knows neither this browser nor its token; this gets new ones for the open page.
  freshToken() {
    refreshing ??= (async () => {
      try {
        const answer = await fetch("/token", { cache: "no-store" });
        edge.csrf = (await answer.json()).csrf;
        document.querySelector("meta[name=csrf]").content = edge.csrf;
        for (const input of document.querySelectorAll("input[name=csrf]")) input.value = edge.csrf;
      } finally { refreshing = null; }
    })();
    return refreshing;
  },

  // Sends a form until the device has answered: across outages, with a fresh token, and after the PIN if need be.
  async post(address, body, wait = () => {}) {
    for (let refused = 0; ;) {
      try {
        const headers = { "X-CSRF-Token": edge.csrf, Accept: "application/json" };
        if (body instanceof FormData && body.has("csrf")) body.set("csrf", edge.csrf);
        const answer = await fetch(address, { method: "POST", body, headers });
        if (answer.status === 503 && body.has("verdict")) throw answer;  // Another process writes to the worklist.
        if (answer.status === 401) { await edge.freshToken(); await edge.signIn(); continue; }
        if (answer.status !== 403 || ++refused > 3) return answer;
        await edge.freshToken();
      } catch {
        wait();
        await ping();
        await pause(1000);
      }
    }
  },

  // Says so when what the open page shows is deleted.
  watchDeletion() {
    let version = null;
    edge.listen(async state => {
      const changed = version !== null && state.version !== version;
      version = state.version;
      if (!changed) return;
      const answer = await fetch(location.pathname, { method: "HEAD" }).catch(() => null);
      if (answer?.status !== 410) return;
      const gone = document.getElementById("gone");
      gone.hidden = false;
      edge.announce(gone.textContent.trim());
    }, false);
  },

  // Asks for the PIN over the open page, so that nothing on it is lost.
  signIn() {
    if (!signIn) { location.reload(); return new Promise(() => {}); }
    asking ??= new Promise(resolve => {
      const form = signIn.querySelector("form"), problem = signIn.querySelector("[role=alert]");
      form.onsubmit = async event => {
        event.preventDefault();
        await edge.alive();
        await edge.freshToken();
        // Sent once: a wrong PIN is refused by 403, too, and each attempt counts.
        const headers = { "X-CSRF-Token": edge.csrf, Accept: "application/json" };
        const answer = await fetch("/enter", { method: "POST", body: new FormData(form), headers }).catch(() => null);
        if (!answer) return;
        const said = await answer.json();
        if (!answer.ok) { problem.hidden = false; problem.textContent = said.error; form.reset(); return; }
        form.reset(); problem.hidden = true;
        signIn.close();
        await edge.freshToken();
        asking = null;
        resolve();
      };
      signIn.showModal();
    });
    return asking;
  },
};

let turns = 0, refreshing = null, asking = null, lostAt = null, heard = Date.now();
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

async function ping() {
  try {
    await fetch("/ready", { cache: "no-store", signal: AbortSignal.timeout(PING_TIMEOUT) });
    heard = Date.now();
    if (lostAt !== null) {
      lostAt = null;
      offline.hidden = true;
      edge.announce(edge.say("online"));
      edge.freshToken().catch(() => {});
    }
    return true;
  } catch {
    if (lostAt === null) {
      lostAt = heard;
      const since = new Date(lostAt).toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
      offline.textContent = edge.say("offline", { since });
      offline.hidden = false;
    }
    return false;
  }
}
setInterval(() => { if (!document.hidden) ping(); }, PING_EVERY);
addEventListener("offline", ping);

document.documentElement.classList.add("scripted");
for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
for (const element of document.querySelectorAll(".no-script")) element.hidden = true;

// Links wait for the device, too.
document.addEventListener("click", event => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.origin !== location.origin || link.target || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  edge.go(link.href);
});

// Forms: one marked with data-keep is sent by this script and kept until it is stored; the others are sent by the
// browser, once the device answers and has given a fresh token.
document.addEventListener("submit", async event => {
  const form = event.target, button = event.submitter;
  if (form.method !== "post" || event.defaultPrevented || form.dataset.own !== undefined) return;
  event.preventDefault();
  if (form.dataset.sending) return;
  form.dataset.sending = "yes";
  const body = new FormData(form, button);
  if (form.dataset.keep === undefined) {
    await edge.alive();
    await edge.freshToken().catch(() => {});
    if (button?.name) {
      const hidden = document.createElement("input");
      hidden.type = "hidden"; hidden.name = button.name; hidden.value = button.value;
      form.append(hidden);
    }
    form.submit();
    return;
  }
  const told = form.querySelector("[role=status]");
  told.hidden = false;
  told.textContent = edge.say("saving");
  const answer = await edge.post(form.action, body, () => { told.textContent = edge.say("kept"); });
  delete form.dataset.sending;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) { told.textContent = said.error ?? `${answer.status}`; return; }
  sessionStorage.removeItem(draftKey(form));
  edge.go(said.url);
});

// What is typed into such a form survives whatever happens to the page.
const draftKey = form => `draft ${new URL(form.action).pathname}`;
document.addEventListener("input", event => {
  const form = event.target.form;
  if (!form || form.dataset.keep === undefined) return;
  const typed = Object.fromEntries([...new FormData(form)].filter(([name]) => name !== "csrf"));
  sessionStorage.setItem(draftKey(form), JSON.stringify(typed));
  if (typed.reviewer) sessionStorage.setItem("reviewer", typed.reviewer);
});
edge.restoreDrafts = () => {
  for (const form of document.querySelectorAll("form[data-keep]")) {
    const typed = JSON.parse(sessionStorage.getItem(draftKey(form)) ?? "{}");
    for (const [name, value] of Object.entries(typed)) if (form.elements[name]) form.elements[name].value = value;
    if (form.elements.reviewer && !form.elements.reviewer.value) {
      form.elements.reviewer.value = sessionStorage.getItem("reviewer") ?? "";
    }
  }
};
edge.restoreDrafts();

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
  a: () => edge.go("/add"),
  w: () => edge.go(document.querySelector(".tabs a")?.href ?? "/"),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target;
  const typing = target.matches("textarea, select, input:not([type=range], [type=radio], [type=file])");
  const arrows = event.key.startsWith("Arrow") && target.matches("input");
  if (typing || arrows) return;
  const action = edge.keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action && action(event) !== false) event.preventDefault();
});
// A link or button that has a key in its `data-key`.
for (const target of document.querySelectorAll("[data-key]")) edge.keys[target.dataset.key] = () => target.click();
