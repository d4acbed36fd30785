// Uploads from this computer or phone: two files at a time, each acknowledged by its row, and sent again after an
// outage, for as long as the page is open.
"use strict";

const AT_ONCE = 2, SHOWN = 200, HEAD = 132;
const SUFFIX = /\.(png|jpe?g|tiff?|dcm)$/i;
const form = document.getElementById("upload"), drop = document.getElementById("drop");
const results = document.getElementById("results"), after = document.getElementById("after");
const progress = document.getElementById("progress"), bar = progress.querySelector("progress");
const statusText = progress.querySelector("span"), stop = document.getElementById("stop");
const limit = Number(form.dataset.most);
const waiting = [];
let total = 0, judged = 0, other = 0, failed = 0, leftOut = 0, running = 0, stopped = false;

// Files that were picked one by one are all sent; of a folder or CD, those that are slices by name or content.
async function enqueue(files, picked) {
  const chosen = [], others = [];
  for (const file of files) {
    if (file.name.startsWith(".")) continue;
    (picked || SUFFIX.test(file.name) || await looksLikeSlice(file) ? chosen : others).push(file);
  }
  if (!running && !waiting.length) { total = judged = other = failed = leftOut = 0; stopped = false; }
  leftOut += others.length;
  if (!chosen.length) {
    progress.hidden = false;
    return edge.announce(statusText.textContent = edge.say("none"));
  }
  const upload = uploadName();
  for (const file of chosen) waiting.push({ file, folder: folderOf(file) || upload });
  total += chosen.length;
  drop.classList.add("less");
  show();
  while (running < AT_ONCE && waiting.length) { running++; work(); }
}

async function looksLikeSlice(file) {
  const bytes = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
  const starts = (...values) => values.every((value, i) => bytes[i] === value);
  const dicom = String.fromCharCode(...bytes.slice(128, 132)) === "DICM" && !/^DICOMDIR$/i.test(file.name);
  return dicom || starts(0x89, 0x50, 0x4e, 0x47) || starts(0xff, 0xd8, 0xff) || starts(0x49, 0x49, 0x2a) || starts(0x4d, 0x4d, 0, 0x2a);
}

// The worklist shows files of one folder together, and files that were picked one by one as one upload.
const folderOf = file => (file.webkitRelativePath || file.folderPath || "").split("/").slice(0, -1).join("/");
function uploadName() {
  const now = new Date(), two = value => String(value).padStart(2, "0");
  const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `upload-${day}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}

async function work() {
  while (waiting.length && !stopped) {
    const { file, folder } = waiting.shift(), line = entry(file.name);
    if (file.size > limit) showResult(line, { error: edge.say("large", { size: limit / 1048576 }) });
    else showResult(line, await send(file, folder, line));
    show();
  }
  running--;
  if (!running) finish();
}

async function send(file, folder, line) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    const body = new FormData();
    body.append("folder", folder);
    body.append("files", file, file.name);
    let answer, result;
    try {
      answer = await edge.post("/upload", body, () => { line.querySelector(".end").textContent = edge.say("lost"); });
      result = await answer.json();
    } catch { continue; }  // The device went away in the middle of its answer.
    if (answer.status !== 503) {
      // A file of several frames is answered by a row for each.
      const [first, ...others] = result.files || [result];
      total += others.length;
      for (const one of others) showResult(entry(one.name), one);
      return first;
    }
    await pause(wait * (0.75 + Math.random() / 2));
    if (stopped) return { error: edge.say("stopped") };
  }
}

function entry(name) {
  const line = document.createElement("li"), what = document.createElement("span"), end = document.createElement("span");
  what.className = "name"; what.textContent = name; what.title = name;
  end.className = "end"; end.textContent = edge.say("sending");
  line.append(what, end);
  results.prepend(line);
  while (results.children.length > SHOWN) results.lastChild.remove();
  return line;
}

function showResult(line, result) {
  const end = line.querySelector(".end");
  if (result.error !== undefined) {
    failed++; other++;
    end.classList.add("bad");
    end.textContent = result.error;
    return;
  }
  if (result.decision === "rejected") other++; else judged++;
  const link = document.createElement("a"), badge = document.createElement("span");
  link.href = result.url;
  badge.className = `badge ${result.decision}`;
  badge.append(mark(result.decision), result.word + (result.decision === "rejected" ? "" : ` ${result.chance}`));
  end.replaceChildren(...(result.new ? [] : [`${edge.say("again")} `]), badge);
  link.append(...line.childNodes);
  if (result.decision === "rejected" && result.reason) {
    const why = document.createElement("span");
    why.className = "why"; why.textContent = result.reason;
    link.append(why);
  }
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
  bar.max = total; bar.value = judged + other;
  const left = total - judged - other;
  const parts = [edge.say(ending ? "done" : "progress", { judged, other, left })];
  if (failed) parts.push(edge.say("failed", { n: failed }));
  if (leftOut) parts.push(edge.say("left_out", { n: leftOut }));
  statusText.textContent = `${parts.join("; ")}.`;
  stop.hidden = ending;
  // Announce about five steps only, so that a screen reader can finish each message.
  if (ending || (judged + other) % Math.max(1, Math.round(total / 5)) === 0) edge.announce(statusText.textContent);
}

function finish() {
  if (stopped) { total -= waiting.length; waiting.length = 0; }
  show(true);
  after.hidden = false;
}

stop.addEventListener("click", () => { stopped = true; });
addEventListener("beforeunload", event => { if (running) event.preventDefault(); });
const folder = document.getElementById("folder");
for (const input of [document.getElementById("files"), document.getElementById("photos")]) {
  input.addEventListener("change", () => { enqueue([...input.files], true); input.value = ""; });
}
folder.addEventListener("change", () => { enqueue([...folder.files], false); folder.value = ""; });

// A phone has photos to choose; it has no folders and nothing can be dropped on it.
const phone = matchMedia("(pointer: coarse) and (max-width: 48rem)").matches;
document.getElementById("pick-photos").hidden = !phone;
document.getElementById("pick-files").classList.toggle("primary", !phone);
document.getElementById("pick-folder").hidden = phone || !("webkitdirectory" in folder);
for (const hint of document.querySelectorAll("[data-device]")) hint.hidden = (hint.dataset.device === "phone") !== phone;

// Files and folders may be dropped anywhere on the page; a folder is uploaded with all files below it.
addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", async event => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(entry => entry.isDirectory)) return enqueue([...event.dataTransfer.files], true);
  enqueue((await Promise.all(entries.map(walk))).flat(), false);
});

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.folderPath = entry.fullPath.slice(1);
    return [file];
  }
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
