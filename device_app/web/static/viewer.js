// One slice: zoom and pan, grey levels, the heat map above the picture, and the way through the series without a reload.
"use strict";

const MAX_ZOOM = 12, WHEEL_STEP = 60, SWIPE = 50;
// Grey levels of the 8-bit picture that are shown as black and as white.
const WINDOWS = { as_is: [0, 255], lung: [0, 128], dense: [112, 255], inverted: [255, 0] };
const stage = document.querySelector(".stage"), values = document.getElementById("values");
const numbers = JSON.parse(stage.dataset.numbers ?? "[]");
let number = Number(stage.dataset.number), grey = null, levels = WINDOWS.as_is, preset = "as_is";
let zoom = 1, x = 0, y = 0, opacity = 30, before = 30, contrast = false, loading = 0;
const find = id => document.getElementById(id);

// Draws the slice with the chosen grey levels on every canvas.
function paint() {
  const picture = find("slice");
  if (!picture?.naturalWidth) return;
  if (!grey) {
    const scratch = document.createElement("canvas");
    scratch.width = picture.naturalWidth; scratch.height = picture.naturalHeight;
    const context = scratch.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    grey = context.getImageData(0, 0, scratch.width, scratch.height);
  }
  const [low, high] = levels, shown = new ImageData(grey.width, grey.height);
  const table = Uint8ClampedArray.from({ length: 256 }, (_, level) => (level - low) * 255 / (high - low || 1));
  for (let i = 0; i < shown.data.length; i += 4) {
    shown.data[i] = shown.data[i + 1] = shown.data[i + 2] = table[grey.data[i]];
    shown.data[i + 3] = 255;
  }
  for (const canvas of stage.querySelectorAll("canvas")) {
    canvas.width = grey.width; canvas.height = grey.height;
    canvas.getContext("2d", { willReadFrequently: true }).putImageData(shown, 0, 0);
    canvas.hidden = false;
    canvas.dataset.window = preset;
  }
}

// The window and level that are shown: Hounsfield units for DICOM, grey levels of the picture for other files.
function showValues() {
  if (!values) return;
  const { level, width } = stage.dataset, [low, high] = levels;
  let [middle, span] = [(low + high) / 2, Math.abs(high - low)];
  if (level) {
    const unit = width / 255;
    [middle, span] = [level - width / 2 + middle * unit, span * unit];
  }
  const text = edge.say(level ? "hounsfield" : "greys", { level: Math.round(middle), width: Math.round(span) });
  values.textContent = zoom > 1.01 ? `${text} · ${Math.round(zoom * 100)} %` : text;
}

function move(newZoom, newX, newY) {
  const pane = stage.querySelector(".pane.over").getBoundingClientRect();
  zoom = Math.min(Math.max(newZoom, 1), MAX_ZOOM);
  const [roomX, roomY] = [pane.width * (zoom - 1) / 2, pane.height * (zoom - 1) / 2];
  x = Math.min(Math.max(newX, -roomX), roomX);
  y = Math.min(Math.max(newY, -roomY), roomY);
  for (const sheet of stage.querySelectorAll(".sheet")) sheet.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
  stage.classList.toggle("zoomed", zoom > 1);
  showValues();
}

// Zooms about a point of the screen, which stays where it is.
function zoomAt(factor, clientX, clientY) {
  const panes = [...stage.querySelectorAll(".pane")].map(pane => pane.getBoundingClientRect());
  const pane = panes.find(box => clientX >= box.left && clientX <= box.right) ?? panes.at(-1);
  const [dx, dy] = [clientX - (pane.left + pane.width / 2), clientY - (pane.top + pane.height / 2)];
  const next = Math.min(Math.max(zoom * factor, 1), MAX_ZOOM), ratio = next / zoom;
  move(next, dx - (dx - x) * ratio, dy - (dy - y) * ratio);
}
function zoomMiddle(factor) {
  const box = stage.querySelector(".pane.over").getBoundingClientRect();
  zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
}

function choose(name) {
  preset = name;
  levels = WINDOWS[name];
  for (const radio of document.querySelectorAll("input[name=window]")) radio.checked = radio.value === name;
  paint();
  showValues();
}

// A drag to the right widens the window, a drag upwards lowers its level, as on a workstation.
function dragWindow(dx, dy) {
  const [low, high] = levels, sign = high < low ? -1 : 1;
  const span = Math.min(Math.max(Math.abs(high - low) + dx, 4), 510);
  const middle = Math.min(Math.max((low + high) / 2 + dy / 2, 0), 255);
  preset = "by hand";
  levels = [middle - sign * span / 2, middle + sign * span / 2];
  for (const radio of document.querySelectorAll("input[name=window]")) radio.checked = false;
  paint();
  showValues();
}

function fade(value) {
  const slider = find("opacity"), layer = find("layer");
  if (!slider || !layer) return;
  opacity = Math.min(Math.max(value, 0), 100);
  slider.value = opacity;
  layer.style.opacity = opacity / 100;
  find("outline").hidden = !opacity;
  find("opacity-value").textContent = `${opacity} %`;
  slider.setAttribute("aria-valuetext", `${opacity} %`);
  find("map").setAttribute("aria-pressed", String(opacity > 0));
}

// Connects what a page or a newly fetched part of one holds.
function connect() {
  const picture = find("slice");
  if (picture) {
    picture.onload = () => { grey = null; paint(); };
    if (picture.complete && picture.naturalWidth) paint();
  }
  fade(opacity);
  for (const radio of document.querySelectorAll("input[name=window]")) {
    radio.checked = radio.value === preset;
    radio.onchange = () => choose(radio.value);
  }
  const slider = find("opacity");
  if (slider) slider.oninput = () => fade(Number(slider.value));
  for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
  const here = document.querySelector(".strip [aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.clientWidth / 2;
  showValues();
}

// Shows another slice of the series: its picture at once, the rest of its page when the reader stops there. The focus
// stays on the same control, so that keys go on with it.
let turning = 0, focused = null;
function turn(by) {
  return show(numbers[numbers.indexOf(number) + by], by);
}
function show(next, by = 0) {
  if (!next) return false;
  focused ??= focusedControl();
  number = next;
  grey = null;
  find("slice").src = `/slices/${number}/slice.png`;
  for (const heat of stage.querySelectorAll(".heat")) heat.style.visibility = "hidden";
  find("case").classList.add("turning");
  new Image().src = `/slices/${numbers[numbers.indexOf(number) + by] ?? number}/slice.png`;
  clearTimeout(turning);
  turning = setTimeout(load, 120);
}
async function load() {
  const turnOf = ++loading;
  try {
    // Asked for as a script does, so that a device that wants the PIN answers 401 instead of the page for it.
    const answer = await fetch(`/slices/${number}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) { await edge.signIn(); return load(); }
    if (!answer.ok) return edge.go(`/slices/${number}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (turnOf !== loading || clearTimeout(turning)) return;
    // A series may mix slices with and without a map, and then the stage itself differs.
    if (fresh.querySelectorAll(".stage .heat").length !== stage.querySelectorAll(".heat").length) return edge.go(`/slices/${number}`);
    focused ??= focusedControl();
    for (const id of ["way", "side", "strip"]) find(id)?.replaceWith(fresh.getElementById(id));
    for (const id of ["slice", "layer", "outline"]) {
      const image = find(id), other = fresh.getElementById(id);
      if (!image || !other) continue;
      image.alt = other.alt;
      if (image.getAttribute("src") !== other.getAttribute("src")) image.src = other.getAttribute("src");
      image.style.visibility = "";
    }
    document.title = fresh.title;
    history.replaceState(null, "", `/slices/${number}`);
    find("case").classList.remove("turning");
    edge.restoreDrafts();
    connect();
    focusAgain();
    edge.announce(`${document.querySelector("#way h1").textContent.trim()}: ${document.querySelector(".verdict .word").textContent.trim()}`);
  } catch { setTimeout(load, 1000); }
}

// Selectors of the focused control and of what stands for it where the next slice has no such control.
function focusedControl() {
  const at = document.activeElement;
  if (!at.closest("#way, #side, #strip")) return null;
  if (at.closest("#strip")) return ["#strip [aria-current]"];
  if (at.rel) return [`#way a[rel=${at.rel}]`, "#way a[rel=up]"];
  if (at.id) return [`#${at.id}`, "#next-open"];
  return [`#side [name="${at.name}"]${at.matches("button, [type=radio]") ? `[value="${at.value}"]` : ""}`, "#agree"];
}
function focusAgain() {
  const control = document.activeElement === document.body && focused?.map(one => document.querySelector(one)).find(Boolean);
  if (control) control.focus({ preventScroll: true });
  focused = null;
}

// Links to other slices of the series show them without a reload.
find("case").addEventListener("click", event => {
  const link = event.target.closest("#strip a, #way a[rel=prev], #way a[rel=next]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const target = Number(link.pathname.split("/").pop());
  if (!numbers.includes(target) || !find("slice")) return;
  event.preventDefault();
  show(target);
});

// Pointers: one finger or button pans, changes the window or swipes through the series; two fingers zoom.
const down = new Map();
let pinch = 0, startX = 0, startY = 0, tapped = 0, dragging = null;
const canvasArea = event => !event.target.closest(".stage-tools");
if (find("canvas")) {
  stage.addEventListener("pointerdown", event => {
    if (!canvasArea(event)) return;
    event.preventDefault();
    down.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    [startX, startY] = [event.clientX, event.clientY];
    dragging = event.button === 2 || contrast ? "window" : zoom > 1 ? "pan" : "swipe";
    const [a, b] = down.values();
    pinch = down.size === 2 ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0;
  });
  stage.addEventListener("pointermove", event => {
    const last = down.get(event.pointerId);
    if (!last) return;
    down.set(event.pointerId, event);
    if (down.size === 2) {
      const [a, b] = [...down.values()], span = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      zoomAt(span / pinch, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
      pinch = span;
      dragging = "pinch";
      return;
    }
    const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
    if (dragging === "window") dragWindow(dx, dy);
    else if (dragging === "pan") move(zoom, x + dx, y + dy);
  });
  const release = event => {
    if (!down.delete(event.pointerId)) return;
    const [dx, dy] = [event.clientX - startX, event.clientY - startY];
    if (dragging === "swipe" && event.type === "pointerup") {
      if (Math.abs(dx) > SWIPE && Math.abs(dx) > Math.abs(dy)) turn(dx < 0 ? 1 : -1);
      else if (Math.abs(dy) > SWIPE) turn(dy < 0 ? 1 : -1);
    }
    if (Math.hypot(dx, dy) < 8 && dragging !== "pinch") {
      if (event.timeStamp - tapped < 350) { zoom > 1 ? move(1, 0, 0) : zoomAt(2.5, event.clientX, event.clientY); tapped = 0; } else tapped = event.timeStamp;
    }
  };
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", release);
  stage.addEventListener("contextmenu", event => { if (canvasArea(event)) event.preventDefault(); });
  let wheel = 0;
  stage.addEventListener("wheel", event => {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || numbers.length < 2) return zoomAt(Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
    wheel += event.deltaMode ? event.deltaY * WHEEL_STEP : event.deltaY;
    if (Math.abs(wheel) < WHEEL_STEP) return;
    turn(wheel > 0 ? 1 : -1);
    wheel = 0;
  }, { passive: false });
  find("zoom_in").onclick = () => zoomMiddle(1.5);
  find("zoom_out").onclick = () => zoomMiddle(1 / 1.5);
  find("fit").onclick = () => { move(1, 0, 0); choose("as_is"); };
  find("contrast").onclick = () => {
    contrast = !contrast;
    find("contrast").setAttribute("aria-pressed", String(contrast));
  };
  if (find("map")) find("map").onclick = () => { if (opacity) { before = opacity; fade(0); } else fade(before); };
  find("full").onclick = () => document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen();
  edge.keys["="] = edge.keys["+"];
  Object.keys(WINDOWS).forEach((name, i) => { edge.keys[String(i + 1)] = () => choose(name); });
  addEventListener("resize", () => move(zoom, x, y));
}

const follow = selector => () => {
  const link = document.querySelector(selector);
  return link ? link.click() : false;
};
edge.keys.ArrowLeft = edge.keys.PageUp = () => turn(-1) !== false ? undefined : follow("a[rel=prev]")();
edge.keys.ArrowRight = edge.keys.PageDown = () => turn(1) !== false ? undefined : follow("a[rel=next]")();
edge.keys.Escape = () => document.fullscreenElement ? false : follow("a[rel=up]")();
edge.keys.n = follow("#next-open");
edge.keys.p = follow("#to-print");
edge.keys.g = () => find("agree").focus();
connect();
edge.watchDeletion();
