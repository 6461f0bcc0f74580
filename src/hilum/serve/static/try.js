// Trying a film: send it, show what the models say of it, and forget it again.

import { send } from "./api.js";
import { attempt, notice } from "./dialogs.js";
import { $, decimal, el, percent } from "./dom.js";
import { scoreRow } from "./score_bar.js";

let shown = null; // the result that is on the page

function layer(name, title, opacity) {
  const image = el("img", { src: shown.images[name], alt: "" });
  const box = el("input", { type: "checkbox", checked: name === "mask" });
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    value: opacity,
    "aria-label": `Opacity: ${title}`,
  });
  image.style.opacity = opacity;
  image.hidden = !box.checked;
  box.addEventListener("change", () => {
    image.hidden = !box.checked;
  });
  slider.addEventListener("input", () => {
    image.style.opacity = slider.value;
  });
  return { image, control: el("p", {}, el("label", {}, box, ` ${title} `), slider) };
}

function images() {
  const layers = [
    ["mask", "Lungs", 0.9],
    ["saliency", "Saliency", 0.7],
  ]
    .filter(([name]) => shown.images[name])
    .map((one) => layer(...one));
  const film = el("img", { src: shown.images.film, alt: `The film ${shown.name}` });
  return el(
    "div",
    {},
    el(
      "div",
      { class: "stack" },
      film,
      layers.map(({ image }) => image),
    ),
    layers.map(({ control }) => control),
  );
}

function verdict() {
  const called = shown.calls.filter((one) => one.call !== "no call");
  const words = called.map((one) => `${one.name}: ${one.call}`).join("; ");
  const reason =
    shown.no_call_reason ??
    (shown.calls.length ? "Each score below says why it has no call." : "No model has scored it.");
  return el(
    "div",
    { class: called.length ? "verdict" : "verdict none" },
    el("b", {}, called.length ? words : "No call"),
    !called.length && el("p", {}, reason),
  );
}

function facts() {
  const { lungs } = shown;
  const areas = lungs && [
    `right ${percent(lungs.right_fraction)}`,
    `left ${percent(lungs.left_fraction)}`,
  ];
  const found = lungs
    ? `${areas.join(", ")} of the image; quality ${decimal(lungs.quality)}`
    : "none were found";
  return el(
    "div",
    {},
    el("h2", {}, shown.name),
    el("p", { class: "soft" }, `${shown.height} × ${shown.width} pixels`),
    verdict(),
    el("h2", {}, "Lungs"),
    el("p", {}, found),
    shown.quality_flags.length > 0 &&
      el(
        "ul",
        {},
        shown.quality_flags.map((flag) => el("li", {}, `▲ ${flag}`)),
      ),
    shown.calls.length > 0 && el("h2", {}, "Scores"),
    shown.calls.map((call) => scoreRow(call, call.model)),
    el(
      "details",
      {},
      el("summary", {}, "How it was read"),
      el(
        "ol",
        {},
        shown.processing_log.map((line) => el("li", {}, line)),
      ),
    ),
    el(
      "p",
      { class: "actions" },
      el("button", { type: "button", onclick: forget }, "Forget it"),
      el(
        "a",
        { class: "button primary", href: shown.download, download: "" },
        "Download everything",
      ),
    ),
  );
}

async function forget() {
  const { token } = shown;
  if ((await attempt(() => send("DELETE", `/api/v1/try/${token}`).then(() => true))) === undefined)
    return;
  shown = null;
  $("#result").replaceChildren();
  notice("nothing of the film is left here");
}

async function read(file) {
  const form = new FormData();
  form.append("file", file);
  $("#busy").hidden = false;
  $("#result").replaceChildren();
  const found = await attempt(() => send("POST", "/api/v1/try", form));
  $("#busy").hidden = true;
  $("#file").value = "";
  if (!found) return;
  shown = found;
  $("#result").replaceChildren(el("div", { class: "film" }, images(), facts()));
}

const zone = $("#drop");
zone.addEventListener("submit", (event) => event.preventDefault());
$("#file").addEventListener(
  "change",
  (event) => event.target.files.length && read(event.target.files[0]),
);
// A film dropped beside the zone must not make the browser leave the page.
for (const kind of ["dragover", "drop"])
  document.addEventListener(kind, (event) => event.preventDefault());
document.addEventListener("dragover", () => zone.classList.add("over"));
document.addEventListener(
  "dragleave",
  (event) => event.relatedTarget === null && zone.classList.remove("over"),
);
document.addEventListener("drop", (event) => {
  zone.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) read(file);
});
