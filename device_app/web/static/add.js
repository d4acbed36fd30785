// Uploads from this computer or phone: two files at a time, each acknowledged by its row, and retried while the device
// is busy.
"use strict";

const AT_ONCE = 2, TRIES = 6, SHOWN = 200;
const SLICE = /\.(png|jpe?g|tiff?|dcm)$/i, NO_SUFFIX = /(^[^.]+|\.\d+)$/;
const form = document.getElementById("upload"), drop = document.getElementById("drop");
const results = document.getElementById("results"), after = document.getElementById("after");
const progress = document.getElementById("progress"), bar = progress.querySelector("progress");
const statusText = progress.querySelector("span"), stop = document.getElementById("stop");
const limit = Number(form.dataset.most);
const waiting = [];
let total = 0, done = 0, failed = 0, running = 0, stopped = false;

function enqueue(files, picked) {
  const accepted = [...files].filter(file => picked || SLICE.test(file.name) || NO_SUFFIX.test(file.name))
    .filter(file => !file.name.startsWith("."));
  if (!accepted.length) return edge.announce(statusText.textContent = edge.say("none"));
  if (!running && !waiting.length) { total = done = failed = 0; stopped = false; }
  for (const file of accepted) waiting.push(file);
  total += accepted.length;
  show();
  while (running < AT_ONCE && waiting.length) { running++; work(); }
}

async function work() {
  while (waiting.length && !stopped) {
    const file = waiting.shift(), line = entry(file.name);
    if (file.size > limit) showResult(line, { error: edge.say("large", { size: limit / 1048576 }) });
    else showResult(line, await send(file, line));
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
      const result = await answer.json();
      if (answer.status !== 503 || attempt === TRIES) {
        // A file of several frames is answered by a row for each.
        const [first, ...others] = result.files || [result];
        total += others.length;
        for (const other of others) showResult(entry(other.name), other);
        return first;
      }
    } catch {
      if (attempt === TRIES) return { error: edge.say("gone") };
      line.querySelector(".end").textContent = edge.say("lost");
    }
    await new Promise(resolve => setTimeout(resolve, 500 * 2 ** attempt * (0.75 + Math.random() / 2)));
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

function showResult(line, result) {
  const end = line.querySelector(".end");
  if (result.error !== undefined) {
    failed++;
    end.classList.add("bad");
    end.textContent = result.error;
    return;
  }
  done++;
  const link = document.createElement("a"), badge = document.createElement("span");
  link.href = result.url;
  badge.className = `badge ${result.decision}`;
  badge.append(mark(result.decision), result.word + (result.decision === "rejected" ? "" : ` ${result.chance}`));
  end.replaceChildren(...(result.new ? [] : [`${edge.say("again")} `]), badge);
  link.append(...line.childNodes);
  if (result.reason) link.title = result.reason;
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
  statusText.textContent = failed ? `${text} ${edge.say("failed", { n: failed })}` : text;
  stop.hidden = ending;
  // Announce about five steps only, so that a screen reader can finish each message.
  if (ending || (done + failed) % Math.max(1, Math.round(total / 5)) === 0) edge.announce(statusText.textContent);
}

function finish() {
  if (stopped) { total -= waiting.length; waiting.length = 0; }
  show(true);
  after.hidden = false;
}

stop.addEventListener("click", () => { stopped = true; });
addEventListener("beforeunload", event => { if (running) event.preventDefault(); });
const files = document.getElementById("files"), folder = document.getElementById("folder");
files.addEventListener("change", () => { enqueue(files.files, true); files.value = ""; });
folder.addEventListener("change", () => { enqueue(folder.files, false); folder.value = ""; });
document.getElementById("pick-folder").hidden = !("webkitdirectory" in folder) || matchMedia("(max-width: 42rem)").matches;

// Files and folders may be dropped anywhere on the page; a folder is uploaded with all files below it.
addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", async event => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(entry => entry.isDirectory)) return enqueue(event.dataTransfer.files, true);
  enqueue((await Promise.all(entries.map(walk))).flat(), false);
});

async function walk(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), files = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return files;
    for (const child of batch) files.push(...await walk(child));
  }
}

// Progress of a folder that the device reads itself.
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
