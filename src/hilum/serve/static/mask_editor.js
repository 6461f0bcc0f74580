// Drawing a lung mask on an image view: the label map in work, its tools and its canvas.

import { LabelMap, Overlap } from "./label_map.js";
import { IGNORE, LabelPainter, LEFT, RIGHT } from "./overlays.js";
import { fill, fillHoles, polygon, smooth, stroke } from "./regions.js";
import { el } from "./dom.js";

export const LAYERS = [
  { label: RIGHT, name: "Right lung", css: "right", key: "1" },
  { label: LEFT, name: "Left lung", css: "left", key: "2" },
  { label: IGNORE, name: "Ignore", css: "ignore", key: "3" },
];
const GROW = 1.18; // of the brush for each step
const RADII = [1, 400]; // pixels of the image
const CLOSES = 10; // CSS pixels from the first corner within which a click closes a polygon

export class MaskEditor {
  /** `changed` runs after each change of the mask, `restyled` after one of layer, tool or size. */
  constructor(view, marks, { changed, restyled }) {
    Object.assign(this, { view, marks, changed, restyled });
    this.canvas = el("canvas", { class: "overlay work", "aria-hidden": "true" });
    view.stage.append(this.canvas);
    Object.assign(this, {
      map: null,
      overlap: null,
      layer: RIGHT,
      protect: true,
      radius: 24,
      points: null,
    });
    this.tools = {
      brush: this.strokes(false),
      eraser: this.strokes(true),
      polygon: this.corners(),
      fill: this.areas(),
    };
  }

  /** Take up a label map; null ends the work on this image. */
  open(map) {
    this.map = map;
    this.overlap = null;
    this.dropPolygon();
    this.canvas.hidden = map === null;
    if (!map) return void (this.canvas.width = 0);
    this.painter = new LabelPainter(this.canvas, map.width, map.height, "work");
    this.painter.paint(map.labels);
    return undefined;
  }

  setReference(labels) {
    this.overlap = labels && this.map ? new Overlap(this.map, labels) : null;
  }

  /** Replace the whole map by another, as one change that can be undone. */
  replace(labels) {
    this.map.touch(this.map.whole);
    this.map.labels.set(labels);
    this.commit();
  }

  set(settings) {
    Object.assign(this, settings);
    this.radius = Math.min(Math.max(this.radius, RADII[0]), RADII[1]);
    if (this.marks.brush) this.marks.moveBrush(this.marks.brush.point, this.radius);
    this.restyled();
  }

  grow(steps) {
    this.set({ radius: this.radius * GROW ** steps });
  }

  ink(erases = false) {
    const { layer, protect } = this;
    if (erases) return { label: 0, over: protect ? (old) => old === layer : () => true };
    return { label: layer, over: protect ? (old) => old === 0 : () => true };
  }

  /** End a change; `painted` says that the canvas shows it already. */
  commit({ painted = false } = {}) {
    this.refresh(this.map.commit(), painted);
  }

  refresh(tiles, painted = false) {
    if (!tiles.length) return;
    if (!painted) this.paint(tiles);
    this.overlap?.update(tiles);
    this.changed();
  }

  paint(tiles) {
    for (const tile of tiles) this.painter.paint(this.map.labels, this.map.box(tile));
  }

  undo() {
    if (this.points) this.dropPolygon();
    else if (this.map) this.refresh(this.map.undo());
  }

  redo() {
    if (this.map) this.refresh(this.map.redo());
  }

  fillHoles() {
    fillHoles(this.map, this.layer);
    this.commit();
  }

  smooth() {
    // About 2 mm on a chest radiograph of 400 mm.
    smooth(
      this.map,
      this.layer,
      Math.max(2, Math.round(Math.max(this.map.width, this.map.height) / 200)),
    );
    this.commit();
  }

  clearLayer() {
    this.map.touch(this.map.whole);
    const { labels } = this.map;
    for (let at = 0; at < labels.length; at++) if (labels[at] === this.layer) labels[at] = 0;
    this.commit();
  }

  // ----------------------------------------------------------------------------------- tools

  strokes(erases) {
    let last = null;
    const draw = (point) => {
      const rect = stroke(this.map, last ?? point, point, this.radius, this.ink(erases));
      last = point;
      this.painter.paint(this.map.labels, rect);
    };
    return {
      cursor: "none",
      down: draw,
      move: (point) => last && draw(point),
      up: () => {
        last = null;
        this.commit({ painted: true });
      },
      cancel: () => {
        last = null;
        this.paint(this.map.cancel());
      },
      hover: (point) => this.marks.moveBrush(point, this.radius),
      wheel: (amount, event) => (event.ctrlKey ? (this.grow(amount < 0 ? 1 : -1), true) : false),
    };
  }

  corners() {
    const near = (point) => {
      const [x, y] = this.view.toPane(this.points[0].column, this.points[0].row);
      return this.points.length > 3 && Math.hypot(x - point.x, y - point.y) < CLOSES;
    };
    return {
      cursor: "crosshair",
      down: (point) => {
        if (this.points && near(point)) return this.closePolygon();
        // The last point follows the pointer until the next click sets it.
        this.points ??= [point];
        this.points.push(point);
        return this.drawPolygon();
      },
      move: (point, event, { last }) => last && this.movePolygon(point),
      hover: (point) => point && this.movePolygon(point),
    };
  }

  movePolygon(point) {
    if (!this.points) return;
    this.points[this.points.length - 1] = point;
    this.drawPolygon();
  }

  drawPolygon() {
    this.marks.outline = this.points;
    this.marks.draw();
  }

  closePolygon() {
    const points = this.points?.slice(0, -1) ?? [];
    this.dropPolygon();
    if (points.length < 3) return;
    polygon(this.map, points, this.ink());
    this.commit();
  }

  dropPolygon() {
    this.points = null;
    this.drawPolygon();
  }

  areas() {
    return {
      cursor: "cell",
      down: (point) => {
        const inside =
          point.column >= 0 &&
          point.row >= 0 &&
          point.column < this.map.width &&
          point.row < this.map.height;
        if (!inside) return;
        fill(this.map, point, this.ink());
        this.commit();
      },
    };
  }
}

/** Masks in work by row, while the page is open: leaving an image does not lose what was drawn. */
export class Drafts {
  constructor() {
    this.kept = new Map();
    addEventListener("beforeunload", (event) => {
      if (this.unsaved().length) event.preventDefault();
    });
  }

  /** A draft: its map, the revision it was begun on, and the map's state that was saved last. */
  begin(row, width, height, revision) {
    const draft = {
      map: new LabelMap(width, height),
      revision,
      saved: null,
      origin: "an empty mask",
    };
    this.kept.set(row, draft);
    return draft;
  }

  get(row) {
    return this.kept.get(row) ?? null;
  }

  drop(row) {
    this.kept.delete(row);
  }

  isUnsaved(row) {
    const draft = this.get(row);
    return draft !== null && draft.map.state !== draft.saved;
  }

  unsaved() {
    return [...this.kept.keys()].filter((row) => this.isUnsaved(row));
  }
}
