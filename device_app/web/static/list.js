// The worklist: refreshes its rows while results arrive, and keeps the focus where it is.
"use strict";

const rows = document.getElementById("rows");
const bar = document.getElementById("progress");
let version = null, busy = false, again = false, most = 0;

async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    do {
      again = false;
      const answer = await fetch("/rows" + location.search, { headers: { Accept: "text/html" } });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) return;
      const fresh = document.createElement("template");
      fresh.innerHTML = await answer.text();
      merge(fresh.content);
      await new Promise(resolve => setTimeout(resolve, 400));
    } while (again);
  } catch { /* The device did not answer; the next event tries again. */ } finally { busy = false; }
}

// Unchanged rows keep their elements, so that a focused row stays focused.
function merge(fresh) {
  const kept = new Map();
  for (const row of rows.querySelectorAll(".row")) kept.set(row.dataset.version, row);
  for (const row of fresh.querySelectorAll(".row")) {
    const unchanged = kept.get(row.dataset.version);
    if (unchanged) row.replaceWith(unchanged);
  }
  const focused = rows.contains(document.activeElement) ? document.activeElement : null;
  const address = focused && focused.getAttribute("href");
  rows.replaceChildren(...fresh.children);
  if (!address) return;
  for (const link of rows.querySelectorAll("a")) {
    if (link.getAttribute("href") === address) { link.focus({ preventScroll: true }); break; }
  }
}

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
