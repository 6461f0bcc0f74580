// The overlays of one image view, and the part of the panel that turns them on, off, and
// translucent.

import { attempt } from "./dialogs.js";
import { el } from "./dom.js";
import { Overlay } from "./overlays.js";

export const KINDS = [
  { group: "mask", kind: "reference", title: "Reference mask", pattern: "plain", swatch: "" },
  { group: "mask", kind: "found", title: "Predicted mask", pattern: "hatched", swatch: "hatched" },
  { group: "mask", kind: "corrected", title: "Corrected mask", pattern: "work", swatch: "work" },
  { group: "heat", kind: "saliency", title: "Saliency", swatch: "heat" },
  { group: "heat", kind: "anomaly", title: "Anomaly", swatch: "heat" },
];
export const BOXES = { kind: "boxes", title: "Boxes of findings", swatch: "boxes" };

/** What the reader chose; it holds for all images and all panes of the page. */
export class Choices {
  constructor() {
    this.shown = new Map();
    this.opacity = new Map(KINDS.map(({ kind, group }) => [kind, group === "heat" ? 0.7 : 0.9]));
  }

  /** Unless the reader chose otherwise, the best mask of an image is shown, and boxes are. */
  isShown(kind, masks) {
    const best = ["corrected", "reference", "found"].find((one) => masks[one]);
    return this.shown.get(kind) ?? (kind === best || kind === BOXES.kind);
  }
}

export class Layers {
  constructor(view, marks, choices) {
    Object.assign(this, { view, marks, choices, facts: null });
    this.overlays = new Map(KINDS.map((one) => [one.kind, new Overlay(view, one)]));
  }

  /** Point all overlays at an image; `run`: predictions are those of another run. */
  setImage(facts, run = null) {
    this.facts = facts;
    const ofRun = run ? `?run=${encodeURIComponent(run)}` : "";
    for (const [kind, overlay] of this.overlays) {
      const there =
        overlay.group === "heat" ? facts.heats.includes(kind) : Boolean(facts.masks[kind]);
      const folder = overlay.group === "heat" ? "heat" : "masks";
      // Set anew after each change: a corrected mask changes under its address.
      const address = `/api/v1/images/${facts.row}/${folder}/${kind}`;
      const isOfRun = kind === "found" || overlay.group === "heat";
      overlay.setSource(there ? address + (isOfRun ? ofRun : "") : null);
    }
    this.marks.boxes = facts.boxes;
    this.apply();
  }

  async apply() {
    const { pane } = this.view;
    this.marks.boxesShown = this.choices.isShown("boxes", this.facts.masks);
    this.marks.draw();
    const shown = [...this.overlays].map(([kind, overlay]) => {
      overlay.setOpacity(this.choices.opacity.get(kind));
      return attempt(() => overlay.setShown(this.choices.isShown(kind, this.facts.masks)));
    });
    // A heat map takes the server a second or two.
    pane.classList.add("computing");
    await Promise.all(shown);
    pane.classList.remove("computing");
  }
}

/** Return the controls of the layers; `changed` is called after each change. */
export function layerControls(choices, facts, changed) {
  const available = ({ kind, group }) => {
    if (kind === "boxes") return facts.boxes.length > 0;
    return group === "heat" ? facts.heats.includes(kind) : Boolean(facts.masks[kind]);
  };
  return [...KINDS, BOXES].map((one) => {
    const there = available(one);
    const box = el("input", {
      type: "checkbox",
      checked: there && choices.isShown(one.kind, facts.masks),
      disabled: !there,
      "data-layer": one.kind,
    });
    box.addEventListener("change", () => {
      choices.shown.set(one.kind, box.checked);
      changed();
    });
    const slider =
      one.kind !== "boxes" &&
      el("input", {
        type: "range",
        min: 0,
        max: 1,
        step: 0.05,
        value: choices.opacity.get(one.kind),
        disabled: !there,
        "aria-label": `Opacity: ${one.title}`,
      });
    if (slider) {
      slider.addEventListener("input", () => {
        choices.opacity.set(one.kind, slider.valueAsNumber);
        changed();
      });
    }
    const label = el(
      "label",
      {},
      box,
      el("span", { class: `swatch ${one.swatch}`, "aria-hidden": "true" }),
      there ? one.title : `${one.title}: none`,
    );
    return el("div", { class: "layer", "data-missing": !there }, label, slider);
  });
}
