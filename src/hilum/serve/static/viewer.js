// The viewer: one image at a time, with what is known of it, where it is corrected, and what is
// next.

import { Companion } from "./companion.js";
import { attempt } from "./dialogs.js";
import { $, $$, el, isTyping, pageData } from "./dom.js";
import { Gestures, panTool, windowTool } from "./gestures.js";
import { ImageStore } from "./image_store.js";
import { ImageView } from "./image_view.js";
import { Choices, Layers, layerControls } from "./layers.js";
import { Marks, measureTool, probeText } from "./marks.js";
import { Drafts } from "./mask_editor.js";
import { MaskPanel } from "./mask_panel.js";
import { aboutSections, fileSections, section } from "./panel.js";
import { readingSection } from "./reading_panel.js";
import { viewerKeys } from "./viewer_keys.js";
import { PRESETS } from "./window_level.js";

// Views in which no side of the image is the patient's right.
const NOT_FRONTAL = ["LATERAL", "OBLIQUE", "DECUBITUS"];

class Viewer {
  constructor(facts) {
    const query = new URLSearchParams(location.search);
    this.blind = Boolean($("#viewer").dataset.blind);
    query.delete("blind");
    this.readOnly = document.body.hasAttribute("data-read-only");
    this.study = pageData("study-data");
    this.store = new ImageStore(query.toString(), this.blind);
    this.facts = facts;
    this.view = new ImageView($("#main-pane"));
    this.marks = new Marks(this.view);
    this.choices = new Choices();
    this.layers = new Layers(this.view, this.marks, this.choices);
    this.drafts = new Drafts();
    this.masks = this.readOnly || this.blind ? null : new MaskPanel(this.view, this.marks, this);
    this.companion = null;
    this.tools = {
      window: windowTool(this.view),
      pan: panTool(this.view),
      measure: measureTool(this.view, this.marks),
      ...this.masks?.editor.tools,
    };
    this.toolName = "window";
    this.addPaneTexts();
    this.listen();
    this.open(facts.row, { known: facts, push: false });
  }

  addPaneTexts() {
    this.corner = el("div", { class: "corner" });
    this.fault = el("p", { class: "fault", role: "alert" });
    // Display convention: the patient's right is at the left of a frontal image.
    this.view.pane.append(
      el("span", { class: "side right", "aria-hidden": "true" }, "R"),
      el("span", { class: "side left", "aria-hidden": "true" }, "L"),
      this.corner,
      this.fault,
    );
    this.view.on("window", () => this.showCorner());
    this.view.on("view", () => this.showCorner());
  }

  listen() {
    this.gestures = new Gestures(this.view, () => this.tool());
    const { pane } = this.view;
    pane.addEventListener("pointermove", (event) => {
      if (this.view.pixels) $("#probe").textContent = probeText(this.view, this.view.point(event));
    });
    for (const button of $$("#pointer-tools [data-tool]"))
      button.addEventListener("click", () => this.useTool(button.dataset.tool));
    $("#presets").replaceChildren(
      ...PRESETS.map(({ key, name }) =>
        el(
          "button",
          { type: "button", "data-preset": key, onclick: () => this.usePreset(key) },
          name,
        ),
      ),
    );
    $("#fit").addEventListener("click", () => this.view.fit());
    $("#actual").addEventListener("click", () => this.actualSize());
    $("#zoom-in").addEventListener("click", () => this.view.zoomAt(1.25));
    $("#zoom-out").addEventListener("click", () => this.view.zoomAt(0.8));
    $("#previous").addEventListener("click", () => this.step("previous"));
    $("#next").addEventListener("click", () => this.step("next"));
    $("#compare").addEventListener("click", () => this.toggleCompanion());
    addEventListener("popstate", () =>
      this.open(Number(location.pathname.split("/").pop()), { push: false }),
    );
    document.addEventListener("keydown", (event) => {
      if (!isTyping(event) && viewerKeys(this, event)) event.preventDefault();
    });
  }

  // ------------------------------------------------------------------------------ one image

  async open(row, { known = null, push = true } = {}) {
    this.wanted = row;
    this.view.pane.classList.add("busy");
    this.fault.textContent = "";
    const found = this.store.get(row, known);
    // What is known of an image is shown although its pixels cannot be read.
    const facts = await attempt(() => found.facts);
    if (!facts || this.wanted !== row) return;
    const pixels = await found.pixels.catch((error) => {
      this.fault.textContent = `The image cannot be shown: ${error.message}`;
      return null;
    });
    if (this.wanted !== row) return;
    this.view.pane.classList.remove("busy");
    if (push) history.pushState(null, "", this.store.address(row));
    this.facts = facts;
    this.useToolQuietly();
    if (pixels) this.view.show(pixels);
    this.showImage();
    this.store.prefetch(facts.position.next);
  }

  step(where) {
    const row = this.facts.position[where];
    if (row !== null) this.open(row);
  }

  /** Read again what is known of the image, after a change here. */
  async refresh() {
    const { row } = this.facts;
    const facts = await attempt(() => this.store.refresh(row));
    if (!facts || this.facts.row !== row) return;
    this.facts = facts;
    this.layers.setImage(facts, null);
    if (this.masks?.draft) this.hideMasks();
    this.showPanel();
  }

  /** The same, where the server's mask is no longer the one that was drawn here. */
  async reload() {
    this.drafts.drop(this.facts.row);
    this.masks?.editor.open(null);
    this.useTool("window");
    await this.refresh();
  }

  showImage() {
    const { facts } = this;
    document.title = `${facts.path} · Hilum`;
    this.view.pane.setAttribute("aria-label", `Radiograph ${facts.path}`);
    $("#to-list").href = `/?${this.store.query}`;
    const { index, total, previous, next } = facts.position;
    $("#place").textContent =
      index < 0 ? "" : `${(index + 1).toLocaleString()} / ${total.toLocaleString()}`;
    $("#previous").disabled = previous === null;
    $("#next").disabled = next === null;
    for (const side of $$(".side", this.view.pane)) side.hidden = NOT_FRONTAL.includes(facts.view);
    this.layers.setImage(facts);
    this.masks?.setImage();
    if (this.masks?.draft) this.hideMasks();
    this.showPanel();
    this.showCorner();
    if (this.companion && !this.companion.run) this.companion.close();
    else if (this.companion) this.companion.show(facts.row, this.companion.run, this.companion.run);
  }

  showPanel() {
    const { facts, blind, readOnly } = this;
    const options = {
      readOnly,
      changed: () => this.refresh(),
    };
    const scroll = $("#panel").scrollTop;
    const sections = blind
      ? [
          readingSection(facts, { ...options, next: () => this.step("next") }),
          ...fileSections(facts),
        ]
      : [
          section(
            "layers",
            "Layers",
            layerControls(this.choices, facts, () => this.applyLayers()),
          ),
          this.masks?.render(),
          this.others(),
          ...aboutSections(facts, options),
        ];
    $("#panel").replaceChildren(
      el("h2", { class: "hidden" }, "About this image"),
      ...sections.filter(Boolean),
    );
    $("#panel").scrollTop = scroll;
    this.showTool();
  }

  applyLayers() {
    this.layers.apply();
    this.companion?.layers.apply();
  }

  /** The mask in work takes the place of the saved ones, until the reader turns them on again. */
  hideMasks() {
    for (const kind of ["reference", "found", "corrected"])
      this.layers.overlays.get(kind).setShown(false);
    for (const box of $$("#panel [data-layer]"))
      if (["reference", "found", "corrected"].includes(box.dataset.layer)) box.checked = false;
  }

  toggleOverlays() {
    this.view.stage.hidden = !this.view.stage.hidden;
  }

  showCorner() {
    const { window: shown, scale } = this.view;
    if (!shown) return;
    const [width, level] = [shown.high - shown.low, (shown.low + shown.high) / 2].map(Math.round);
    const windowed = `W ${width}  L ${level}${shown.inverted ? "  inverted" : ""}`;
    this.corner.textContent = `${windowed}  ·  ${Math.round(100 * scale)} %`;
  }

  // ------------------------------------------------------------------------- tools and views

  tool() {
    // Tools of the mask wait for a map to draw on.
    const draws = this.masks?.editor.tools[this.toolName];
    return draws && !this.masks.editor.map ? {} : this.tools[this.toolName];
  }

  useToolQuietly() {
    this.marks.moveBrush(null);
    if (this.masks?.editor.tools[this.toolName] && !this.drafts.get(this.facts.row))
      this.toolName = "window";
  }

  async useTool(name) {
    if (!this.tools[name]) return;
    this.toolName = name;
    this.marks.moveBrush(null);
    if (name !== "polygon") this.masks?.editor.dropPolygon();
    this.showTool();
    if (this.masks?.editor.tools[name]) await this.masks.ensureDraft();
  }

  showTool() {
    for (const button of $$("[data-tool]"))
      button.setAttribute("aria-pressed", String(button.dataset.tool === this.toolName));
    this.view.pane.style.cursor = this.tools[this.toolName].cursor;
  }

  usePreset(key) {
    if (!this.view.pixels) return;
    this.view.setWindow(...PRESETS.find((preset) => preset.key === key).of(this.view.pixels));
  }

  actualSize() {
    this.view.zoomAt(1 / this.view.ratio / this.view.scale);
  }

  // ----------------------------------------------------------------------- beside the image

  others() {
    const { facts } = this;
    const images = facts.others.filter((one) => one.row !== facts.row);
    const runs = this.study.compare_with;
    if (!images.length && !runs.length) return null;
    const image = (one) => {
      const about = [
        one.view,
        one.follow_up !== null && `follow-up ${one.follow_up}`,
        one.path.split("/").pop(),
      ]
        .filter(Boolean)
        .join(", ");
      return el(
        "button",
        { type: "button", "data-beside": one.row, onclick: () => this.beside(one.row, one.path) },
        el("img", { src: `/api/v1/images/${one.row}/thumbnail`, alt: "", loading: "lazy" }),
        el("span", {}, about),
      );
    };
    const run = (name) =>
      el(
        "button",
        { type: "button", onclick: () => this.beside(facts.row, `run ${name}`, name) },
        `Run ${name}`,
      );
    return section(
      "others",
      ["Beside it ", el("span", { class: "count" }, String(images.length + runs.length))],
      el("div", { class: "others" }, images.map(image)),
      runs.length > 0 && el("p", {}, runs.map(run)),
    );
  }

  beside(row, title, run = null) {
    if (run) {
      // Two runs differ in what they predict, so that is what is shown.
      this.choices.shown.set("found", true);
      this.applyLayers();
      this.showPanel();
    }
    this.companion ??= new Companion(this.view, this.store, this.choices, () => {
      this.companion = null;
      $("#compare").setAttribute("aria-pressed", "false");
    });
    $("#compare").setAttribute("aria-pressed", "true");
    this.companion.show(row, title, run);
  }

  toggleCompanion() {
    if (this.companion) return this.companion.close();
    const [other] = this.facts.others.filter((one) => one.row !== this.facts.row);
    const [run] = this.study.compare_with;
    if (other) this.beside(other.row, other.path);
    else if (run) this.beside(this.facts.row, `run ${run}`, run);
    return undefined;
  }
}

new Viewer(pageData());
