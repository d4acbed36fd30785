// Files from this screen or phone: two at a time, each acknowledged by its row, tried again while the device is busy.
"use strict";

const AT_ONCE = 2, TRIES = 6, SHOWN = 200;
const SLICE = /\.(png|jpe?g|tiff?|dcm)$/i, NO_SUFFIX = /(^[^.]+|\.\d+)$/;
const form = document.getElementById("upload"), drop = document.getElementById("drop");
const results = document.getElementById("results"), after = document.getElementById("after");
const progress = document.getElementById("progress"), bar = progress.querySelector("progress");
const told = progress.querySelector("span"), stop = document.getElementById("stop");
const limit = Number(form.dataset.most);
const waiting = [];
let total = 0, done = 0, failed = 0, running = 0, stopped = false;

function take(files, picked) {
  const good = [...files].filter(file => picked || SLICE.test(file.name) || NO_SUFFIX.test(file.name))
    .filter(file => !file.name.startsWith("."));
  if (!good.length) return edge.announce(told.textContent = edge.say("none"));
  if (!running && !waiting.length) { total = done = failed = 0; stopped = false; }
  for (const file of good) waiting.push(file);
  total += good.length;
  show();
  while (running < AT_ONCE && waiting.length) { running++; work(); }
}

async function work() {
  while (waiting.length && !stopped) {
    const file = waiting.shift(), line = entry(file.name);
    if (file.size > limit) settle(line, { error: edge.say("large", { size: limit / 1048576 }) });
    else settle(line, await send(file, line));
    show();
  }
  running--;
  if (!running) finish();
}

async function send(file, line) {
  for (let attempt = 1; ; attempt++) {
    try {
      const body = new FormData();
      body.append("files", file, file.name);
      const answer = await fetch("/upload", { method: "POST", body, headers: { "X-CSRF-Token": edge.csrf, Accept: "application/json" } });
      if (answer.status === 401) { location.reload(); return { error: "" }; }
      const said = await answer.json();
      if (answer.status !== 503 || attempt === TRIES) return said.files ? said.files[0] : said;
    } catch {
      if (attempt === TRIES) return { error: edge.say("gone") };
      line.querySelector(".end").textContent = edge.say("lost");
    }
    await new Promise(go => setTimeout(go, 500 * 2 ** attempt * (0.75 + Math.random() / 2)));
    if (stopped) return { error: edge.say("stopped") };
  }
}

function entry(name) {
  const line = document.createElement("li"), what = document.createElement("span"), end = document.createElement("span");
  what.className = "name"; what.textContent = name;
  end.className = "end"; end.textContent = edge.say("sending");
  line.append(what, end);
  results.prepend(line);
  while (results.children.length > SHOWN) results.lastChild.remove();
  return line;
}

function settle(line, said) {
  const end = line.querySelector(".end");
  if (said.error !== undefined) {
    failed++;
    end.classList.add("bad");
    end.textContent = said.error;
    return;
  }
  done++;
  const link = document.createElement("a"), badge = document.createElement("span");
  link.href = said.url;
  badge.className = `badge ${said.decision}`;
  badge.append(mark(said.decision), said.word + (said.decision === "rejected" ? "" : ` ${said.chance}`));
  end.replaceChildren(...(said.new ? [] : [`${edge.say("again")} `]), badge);
  link.append(...line.childNodes);
  if (said.reason) link.title = said.reason;
  line.replaceChildren(link);
}

function mark(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function show(ending = false) {
  progress.hidden = false;
  bar.max = total; bar.value = done + failed;
  const text = edge.say(ending ? "finished" : "progress", { done, total });
  told.textContent = failed ? `${text} ${edge.say("failed", { n: failed })}` : text;
  stop.hidden = ending;
  // Not each one: a screen reader would never come to an end.
  if (ending || (done + failed) % Math.max(1, Math.round(total / 5)) === 0) edge.announce(told.textContent);
}

function finish() {
  if (stopped) { total -= waiting.length; waiting.length = 0; }
  show(true);
  after.hidden = false;
}

stop.addEventListener("click", () => { stopped = true; });
addEventListener("beforeunload", event => { if (running) event.preventDefault(); });
const files = document.getElementById("files"), folder = document.getElementById("folder");
files.addEventListener("change", () => { take(files.files, true); files.value = ""; });
folder.addEventListener("change", () => { take(folder.files, false); folder.value = ""; });
document.getElementById("pick-folder").hidden = !("webkitdirectory" in folder) || matchMedia("(max-width: 42rem)").matches;

// The whole page takes what is dropped, folders with what is in them.
addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", async event => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(one => one.isDirectory)) return take(event.dataTransfer.files, true);
  take((await Promise.all(entries.map(walk))).flat(), false);
});

async function walk(entry) {
  if (entry.isFile) return [await new Promise((good, bad) => entry.file(good, bad))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((good, bad) => reader.readEntries(good, bad));
    if (!some.length) return found;
    for (const one of some) found.push(...await walk(one));
  }
}

// A folder of the device, which the device reads itself.
const reading = document.getElementById("reading");
edge.listen(state => {
  if (!reading || !state.reading) return;
  const now = state.reading;
  reading.hidden = false;
  reading.querySelector("b").textContent = now.folder;
  reading.querySelector("progress").max = now.total || 1;
  reading.querySelector("progress").value = now.done + now.failed;
  reading.querySelector(".told").textContent = `${edge.say("reading", now)} ${now.message ?? ""}`;
  reading.querySelector("form").hidden = !now.running;
  if (reading.dataset.running && !now.running) {
    edge.announce(reading.querySelector(".told").textContent);
    after.hidden = false;
  }
  reading.dataset.running = now.running ? "yes" : "";
});
