// One slice: grey levels on a canvas, the heat map as a layer above it, keyboard shortcuts.
"use strict";

const picture = document.getElementById("slice"), canvas = document.getElementById("canvas");
const layer = document.getElementById("layer"), slider = document.getElementById("opacity");

// Grey levels of the 8-bit picture that are shown as black and as white.
const WINDOWS = { as_is: [0, 255], lung: [0, 128], dense: [112, 255], inverted: [255, 0] };
let original = null;

function paint(name) {
  if (!picture) return;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!original) {
    canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
    context.drawImage(picture, 0, 0);
    original = context.getImageData(0, 0, canvas.width, canvas.height);
  }
  const [low, high] = WINDOWS[name];
  const table = Uint8ClampedArray.from({ length: 256 }, (_, grey) => (grey - low) * 255 / (high - low));
  const shown = new ImageData(new Uint8ClampedArray(original.data), canvas.width, canvas.height);
  for (let i = 0; i < shown.data.length; i += 4) {
    shown.data[i] = shown.data[i + 1] = shown.data[i + 2] = table[shown.data[i]];
  }
  context.putImageData(shown, 0, 0);
  canvas.hidden = false;
  canvas.dataset.window = name;
}

const radios = [...document.querySelectorAll("input[name=window]")];
const draw = () => paint((radios.find(radio => radio.checked) ?? { value: "as_is" }).value);
for (const radio of radios) radio.addEventListener("change", draw);
if (picture) picture.complete && picture.naturalWidth ? draw() : picture.addEventListener("load", draw);

let before = 65;
function fade(value) {
  if (!slider) return;
  slider.value = Math.min(Math.max(value, 0), 100);
  layer.style.opacity = slider.value / 100;
  document.getElementById("opacity-value").textContent = `${slider.value} %`;
  slider.setAttribute("aria-valuetext", `${slider.value} %`);
}
if (slider) {
  slider.addEventListener("input", () => fade(slider.value));
  fade(slider.value);
  edge.keys.h = () => {
    if (Number(slider.value)) { before = Number(slider.value); fade(0); } else fade(before);
  };
  edge.keys["+"] = edge.keys["="] = () => fade(Number(slider.value) + 10);
  edge.keys["-"] = () => fade(Number(slider.value) - 10);
}
radios.forEach((radio, i) => { edge.keys[String(i + 1)] = () => { radio.checked = true; draw(); }; });

const go = rel => () => {
  const link = document.querySelector(`a[rel=${rel}]`);
  return link ? link.click() : false;
};
edge.keys.ArrowLeft = go("prev");
edge.keys.ArrowRight = go("next");
edge.keys.Escape = go("up");
edge.keys.p = () => document.getElementById("to-print").click();
edge.keys.g = () => document.getElementById("agree").focus();

// Scroll the strip to this slice.
const here = document.querySelector(".strip [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.clientWidth / 2;
