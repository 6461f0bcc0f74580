// The part of the panel for drawing masks: where to begin, layers, tools, live figures, saving.

import { getBlob } from "./api.js";
import { confirmChange } from "./changes.js";
import { attempt, notice } from "./dialogs.js";
import { $, $$, debounce, decimal, el } from "./dom.js";
import { LAYERS, MaskEditor } from "./mask_editor.js";
import { nextToDraw, plausibility, removeMask, saveMask } from "./mask_saving.js";
import { decodeLabels } from "./overlays.js";
import { section } from "./panel.js";

const ORIGINS = [
  ["corrected", "Corrected mask"],
  ["found", "Predicted mask"],
  ["reference", "Reference mask"],
  ["mirrored", "Mirrored side"],
  ["neighbour", "Neighbour film"],
];
const TOOLS = [
  ["brush", "●", "Brush", "B"],
  ["eraser", "⌫", "Eraser", "E"],
  ["polygon", "⬠", "Polygon", "P"],
  ["fill", "▨", "Fill", "F"],
];
const PLAUSIBLE_AFTER_MS = 700;
const NEVER = Symbol("a state that no map has");

export class MaskPanel {
  /** `desk`: the viewer, of which the panel uses layers, drafts, choice of tool and navigation. */
  constructor(view, marks, desk) {
    Object.assign(this, { view, marks, desk, drafts: desk.drafts });
    this.editor = new MaskEditor(view, marks, {
      changed: () => this.maskChanged(),
      restyled: () => this.showSettings(),
    });
    this.judge = debounce(PLAUSIBLE_AFTER_MS, () => this.showPlausibility());
    this.node = null;
  }

  get row() {
    return this.desk.facts.row;
  }

  get draft() {
    return this.drafts.get(this.row);
  }

  /** Take up what was drawn on this image before, if anything. Call it for each new image. */
  setImage() {
    this.editor.open(this.draft?.map ?? null);
    if (this.draft) this.compareWithReference();
  }

  /** Return the section for the image that is shown. */
  render() {
    const { masks } = this.desk.facts;
    const origins = ORIGINS.filter(([kind]) => masks[kind]).map(([kind, title]) =>
      el("button", { type: "button", "data-origin": kind, onclick: () => this.begin(kind) }, title),
    );
    const layer = ({ label, name, css, key }) =>
      el(
        "button",
        {
          type: "button",
          "data-layer-label": label,
          title: `${name} (${key})`,
          onclick: () => this.editor.set({ layer: label }),
        },
        el("span", { class: `dot ${css}`, "aria-hidden": "true" }),
        name,
      );
    const tool = ([key, sign, name, letter]) =>
      el(
        "button",
        {
          type: "button",
          "data-tool": key,
          title: `${name} (${letter})`,
          onclick: () => this.desk.useTool(key),
        },
        el("span", { "aria-hidden": "true" }, sign),
        name,
      );
    const act = (name, title, run) =>
      el("button", { type: "button", title, onclick: () => this.withDraft(run) }, name);
    const size = el("input", {
      type: "range",
      min: 0,
      max: 100,
      "aria-label": "Size of the brush",
      id: "brush-size",
    });
    // A slider over the logarithm: small sizes need finer steps than large ones.
    size.addEventListener("input", () =>
      this.editor.set({ radius: 400 ** (size.valueAsNumber / 100) }),
    );
    const protect = el("input", { type: "checkbox", checked: this.editor.protect });
    protect.addEventListener("change", () => this.editor.set({ protect: protect.checked }));
    this.node = section(
      "mask",
      ["Draw the mask ", el("span", { id: "unsaved", role: "status" })],
      el("div", { class: "small", id: "elsewhere" }),
      el("div", { class: "small soft", id: "origin" }),
      el(
        "div",
        { class: "toolset two", id: "origins" },
        origins,
        el(
          "button",
          { type: "button", "data-origin": "empty", onclick: () => this.begin("empty") },
          "Empty",
        ),
      ),
      el(
        "div",
        { class: "toolset three", role: "group", "aria-label": "Layer" },
        LAYERS.map(layer),
      ),
      el("div", { class: "toolset", role: "group", "aria-label": "Drawing tool" }, TOOLS.map(tool)),
      el("label", { class: "field" }, el("span", { id: "brush-name" }), size),
      el("label", {}, protect, " Leave other layers alone"),
      el(
        "div",
        { class: "toolset" },
        act("Holes", "Fill the holes of the layer (H)", () => this.editor.fillHoles()),
        act("Smooth", "Smooth the border of the layer (J)", () => this.editor.smooth()),
        act("↶ Undo", "Undo (Ctrl+Z)", () => this.editor.undo()),
        act("↷ Redo", "Redo (Ctrl+Y)", () => this.editor.redo()),
      ),
      el("div", { class: "dice", id: "dice" }),
      el("ul", { class: "flags", id: "plausibility", "aria-live": "polite" }),
      el(
        "div",
        { class: "toolset two" },
        el(
          "button",
          {
            type: "button",
            class: "primary",
            id: "save",
            title: "Ctrl+S",
            onclick: () => this.save(),
          },
          "Save",
        ),
        el(
          "button",
          {
            type: "button",
            id: "save-next",
            title: "Ctrl+Enter",
            onclick: () => this.saveAndNext(),
          },
          "Save, next to draw",
        ),
      ),
      el(
        "div",
        { class: "toolset two" },
        el("button", { type: "button", id: "discard", onclick: () => this.discard() }, "Discard"),
        masks.corrected &&
          el(
            "button",
            { type: "button", onclick: () => this.takeBack() },
            "Take the saved one back",
          ),
      ),
    );
    this.showSettings();
    this.showState();
    return this.node;
  }

  showSettings() {
    if (!this.node) return;
    const { layer, radius } = this.editor;
    for (const button of $$("[data-layer-label]", this.node))
      button.setAttribute("aria-pressed", String(Number(button.dataset.layerLabel) === layer));
    const spacing = this.view.pixels?.spacing;
    const mm = spacing ? `, ${decimal(2 * radius * spacing.column, 1)} mm` : "";
    $("#brush-name", this.node).textContent = `Brush: ${Math.round(2 * radius)} pixels wide${mm}`;
    $("#brush-size", this.node).value = (100 * Math.log(radius)) / Math.log(400);
  }

  showState() {
    if (!this.node) return;
    const { draft } = this;
    const unsaved = this.drafts.isUnsaved(this.row);
    const elsewhere = this.drafts.unsaved().filter((row) => row !== this.row);
    $("#unsaved", this.node).textContent = unsaved ? "● not saved" : "";
    $("#elsewhere", this.node).replaceChildren(
      ...(elsewhere.length
        ? [
            `Not saved on other images (${elsewhere.length}): `,
            ...elsewhere.map((row) =>
              el(
                "button",
                { type: "button", class: "quiet", onclick: () => this.desk.open(row) },
                `image ${row}`,
              ),
            ),
          ]
        : []),
    );
    $("#origin", this.node).textContent = draft
      ? `Begun from ${draft.origin}. Begin anew from:`
      : "Begin from:";
    $("#save", this.node).disabled = !unsaved;
    $("#save-next", this.node).disabled = !draft;
    $("#discard", this.node).disabled = !draft;
    const dice = this.editor.overlap?.dice();
    const box = (name, value) =>
      el(
        "div",
        {},
        el("span", { class: "soft small" }, `Dice, ${name} lung`),
        el("b", {}, Number.isNaN(value) ? "–" : decimal(value, 3)),
      );
    $("#dice", this.node).replaceChildren(
      ...(dice ? [box("right", dice.right), box("left", dice.left)] : []),
    );
    if (!draft) $("#plausibility", this.node).replaceChildren();
  }

  maskChanged() {
    this.showState();
    this.judge();
  }

  async showPlausibility() {
    const { draft, row, node } = this;
    if (!draft?.map.labels.some((label) => label === 1 || label === 2)) return;
    const { state } = draft.map;
    const answer = await plausibility(row, draft.map).catch((error) => ({
      flags: [error.message],
    }));
    const isOld = row !== this.row || state !== draft.map.state || node !== this.node;
    if (isOld) return;
    const list = $("#plausibility", this.node);
    list.classList.toggle("good", !answer.flags.length);
    list.replaceChildren(
      ...(answer.flags.length ? answer.flags : ["two lungs of usual shape"]).map((flag) =>
        el("li", {}, flag),
      ),
    );
  }

  async compareWithReference() {
    const { row } = this;
    if (!this.desk.facts.masks.reference) return;
    const overlay = this.desk.layers.overlays.get("reference");
    const reference = await attempt(() => overlay.load());
    if (row !== this.row || !this.draft || reference?.width !== this.draft.map.width) return;
    this.editor.setReference(reference.labels);
    this.showState();
  }

  // ------------------------------------------------------------------------------- beginning

  /** Begin from one of `ORIGINS`, or "empty". With work under way it becomes a change of that. */
  async begin(kind) {
    const { row } = this;
    const { width, height } = this.view.pixels;
    const source =
      kind === "empty"
        ? { width, height, labels: new Uint8Array(width * height) }
        : await attempt(() => getBlob(`/api/v1/images/${row}/masks/${kind}`).then(decodeLabels));
    if (!source || row !== this.row) return false;
    if (source.width !== width || source.height !== height) {
      notice(
        `the mask has ${source.height} × ${source.width} pixels, the image ${height} × ${width}`,
        { error: true },
      );
      return false;
    }
    const isNew = !this.draft;
    const draft =
      this.draft ?? this.drafts.begin(row, width, height, this.desk.facts.mask_revision);
    draft.origin =
      kind === "empty"
        ? "an empty mask"
        : `the ${ORIGINS.find(([one]) => one === kind)[1].toLowerCase()}`;
    if (isNew) {
      this.desk.hideMasks();
      draft.map.labels.set(source.labels);
      this.editor.open(draft.map);
      // A proposal is work to be saved, also without a stroke; what stands already is not.
      draft.saved = ["corrected", "reference", "empty"].includes(kind) ? null : NEVER;
      this.compareWithReference();
      this.maskChanged();
    } else {
      this.editor.replace(source.labels);
      this.showState();
    }
    return true;
  }

  /** Begin from the best mask there is, where nothing is in work yet. */
  async ensureDraft() {
    if (this.draft) return true;
    const { masks } = this.desk.facts;
    const best = ["corrected", "reference", "found"].find((kind) => masks[kind]);
    return this.begin(best ?? "empty");
  }

  async withDraft(run) {
    if (await this.ensureDraft()) run();
  }

  // ---------------------------------------------------------------------------------- saving

  async save() {
    const { row, draft } = this;
    if (!draft || !this.drafts.isUnsaved(row)) return Boolean(draft);
    const revision = await attempt(() => saveMask(row, draft));
    if (!revision) return false;
    confirmChange("mask saved", revision, () => this.desk.reload());
    await this.desk.refresh();
    return true;
  }

  async saveAndNext() {
    if (!(await this.save())) return;
    const next = await attempt(() => nextToDraw(this.row));
    if (next === null) notice("no other image waits for a mask");
    else if (next !== undefined) this.desk.open(next);
  }

  discard() {
    this.drafts.drop(this.row);
    this.editor.open(null);
    this.desk.useTool("window");
    this.desk.layers.apply();
    this.showState();
  }

  async takeBack() {
    const answer = await attempt(() => removeMask(this.row, this.desk.facts.mask_revision));
    if (!answer) return;
    this.drafts.drop(this.row);
    this.editor.open(null);
    confirmChange("the saved mask was taken back", answer.revision, () => this.desk.reload());
    this.desk.refresh();
  }
}
