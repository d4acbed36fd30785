// The worklist: refreshes its lines while results arrive or a search is typed, and keeps the focus where it is.
"use strict";

const rows = document.getElementById("rows"), bar = document.getElementById("progress");
const find = document.getElementById("find");
let version = null, busy = false, again = false, most = 0;

async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    do {
      again = false;
      const answer = await fetch("/rows" + location.search, { headers: { Accept: "text/html" } });
      if (answer.status === 401) await edge.signIn();
      if (!answer.ok) return;
      const fresh = document.createElement("template");
      fresh.innerHTML = await answer.text();
      merge(fresh.content);
      await new Promise(resolve => setTimeout(resolve, 300));
    } while (again);
  } catch { /* The device did not answer; the next event tries again. */ } finally { busy = false; }
}

// Unchanged lines keep their elements. The focused line gets its focus back, as an element that moves loses it.
function merge(fresh) {
  const focused = rows.contains(document.activeElement) ? document.activeElement : null;
  const address = focused && focused.getAttribute("href");
  const kept = new Map();
  for (const row of rows.querySelectorAll(".row")) kept.set(row.dataset.version, row);
  for (const row of fresh.querySelectorAll(".row")) {
    const unchanged = kept.get(row.dataset.version);
    if (unchanged) row.replaceWith(unchanged);
  }
  rows.replaceChildren(...fresh.children);
  if (!address) return;
  for (const link of rows.querySelectorAll("a")) {
    if (link.getAttribute("href") === address) { link.focus({ preventScroll: true }); break; }
  }
}

// Search and order are part of the address, so that Back and the links to the worklist return to them.
let typing = 0;
function seek() {
  const query = new URLSearchParams(location.search);
  query.delete("page");
  for (const [name, usual] of [["q", ""], ["sort", "urgency"]]) {
    const value = find.elements[name].value.trim();
    if (value === usual) query.delete(name); else query.set(name, value);
  }
  history.replaceState(null, "", query.size ? `/?${query}` : "/");
  refresh();
}
find.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(seek, 250); });
find.addEventListener("submit", event => { event.preventDefault(); clearTimeout(typing); seek(); });

edge.listen(state => {
  const first = version === null;
  if (state.version !== version) {
    version = state.version;
    refresh();
    if (!first) edge.announce(edge.say("news", state.counts));
  }
  const reading = state.reading && state.reading.running ? state.reading : null;
  const left = reading ? reading.total - reading.done - reading.failed : state.waiting;
  bar.hidden = !left;
  most = left ? Math.max(most, left) : 0;
  bar.querySelector("progress").max = most || 1;
  bar.querySelector("progress").value = most - left;
  bar.querySelector("span").textContent = edge.say("queue", { n: left });
});

function step(by) {
  const links = [...rows.querySelectorAll(".row a")];
  const at = links.indexOf(document.activeElement);
  const next = links[Math.min(Math.max(at < 0 ? 0 : at + by, 0), links.length - 1)];
  if (!next) return false;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}
edge.keys.ArrowDown = edge.keys.j = () => step(1);
edge.keys.ArrowUp = edge.keys.k = () => step(-1);
edge.keys["/"] = () => find.elements.q.focus();
