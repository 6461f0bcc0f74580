// What lies over the image: masks and heat maps, each on a canvas of its own with its opacity.
// Masks differ by pattern as well as by colour: reference is plain, found is hatched, corrected has
// a thick edge; right and left lung carry their letters in the list of layers.

import { getBlob } from "./api.js";
import { el } from "./dom.js";

export const RIGHT = 1;
export const LEFT = 2;
export const IGNORE = 255;
const COLOURS = { [RIGHT]: [255, 166, 0], [LEFT]: [54, 214, 247], [IGNORE]: [214, 150, 255] };
const FILL = { plain: 60, hatched: 80, work: 70 }; // alpha of the inside
const HEAT_SIDE = 1024; // pixels of a heat map's canvas at most; heat maps are coarse

const rgba = ([r, g, b], a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

function palette(alpha) {
  const colours = new Uint32Array(256);
  for (const [label, colour] of Object.entries(COLOURS)) colours[label] = rgba(colour, alpha);
  return colours;
}

/** Decode a PNG label map: {width, height, labels}, one byte for each pixel. */
export async function decodeLabels(blob) {
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const values = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  const labels = new Uint8Array(values.length);
  for (let at = 0; at < labels.length; at++) labels[at] = values[at];
  return { width, height, labels };
}

/** A way to draw a label map: "plain", "hatched" (proposals), or "work" (the mask that is
 *  edited). */
export class LabelPainter {
  constructor(canvas, width, height, pattern) {
    Object.assign(canvas, { width, height });
    this.context = canvas.getContext("2d");
    Object.assign(this, { width, height, hatched: pattern === "hatched" });
    this.inside = palette(FILL[pattern]);
    this.edge = palette(255);
    // An edge stays visible when a large film is shown small.
    this.thickness = Math.max(
      1,
      Math.round((Math.max(width, height) / 900) * (pattern === "work" ? 2 : 1.3)),
    );
    this.period = Math.max(6, Math.round(Math.max(width, height) / 70));
  }

  /** Paint labels within a rectangle {left, top, right, bottom}, and the edges that it changes. */
  paint(labels, rect = { left: 0, top: 0, right: this.width, bottom: this.height }) {
    const { width, height, thickness: t } = this;
    const [left, top] = [Math.max(0, rect.left - t), Math.max(0, rect.top - t)];
    const [right, bottom] = [Math.min(width, rect.right + t), Math.min(height, rect.bottom + t)];
    if (right <= left || bottom <= top) return;
    const image = new ImageData(right - left, bottom - top);
    const shown = new Uint32Array(image.data.buffer);
    for (let y = top, to = 0; y < bottom; y++) {
      const [up, down] = [y < t ? 0 : -t * width, y >= height - t ? 0 : t * width];
      for (let x = left, at = y * width + left; x < right; x++, at++, to++) {
        const label = labels[at];
        if (label) shown[to] = this.colour(labels, at, label, x, y, up, down);
      }
    }
    this.context.putImageData(image, left, top);
  }

  colour(labels, at, label, x, y, up, down) {
    const { width, thickness: t, period } = this;
    const first = x < t ? at : at - t;
    const last = x >= width - t ? at : at + t;
    if (
      labels[at + up] !== label ||
      labels[at + down] !== label ||
      labels[first] !== label ||
      labels[last] !== label
    )
      return this.edge[label];
    return this.hatched && (x + y) % period > period >> 2 ? 0 : this.inside[label];
  }
}

/** Colours from transparent over purple and red to yellow, of which lightness rises throughout. */
function heatColours() {
  const stops = [
    [0, [60, 0, 90, 0]],
    [0.3, [120, 20, 130, 90]],
    [0.6, [225, 60, 60, 170]],
    [1, [255, 235, 90, 225]],
  ];
  return Uint32Array.from({ length: 256 }, (_, value) => {
    const at = value / 255;
    const upper = Math.max(
      1,
      stops.findIndex(([stop]) => stop >= at),
    );
    const [[from, low], [to, high]] = [stops[upper - 1], stops[upper]];
    const mixed = low.map((one, channel) =>
      Math.round(one + ((high[channel] - one) * (at - from)) / (to - from)),
    );
    return rgba(mixed, mixed[3]);
  });
}
const HEAT = heatColours();

async function paintHeat(canvas, blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const scale = Math.min(1, HEAT_SIDE / Math.max(bitmap.width, bitmap.height));
  Object.assign(canvas, {
    width: Math.round(bitmap.width * scale),
    height: Math.round(bitmap.height * scale),
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const shown = new Uint32Array(image.data.buffer);
  for (let at = 0; at < shown.length; at++) shown[at] = HEAT[shown[at] & 255];
  context.putImageData(image, 0, 0);
}

export class Overlay {
  /** `kind` is a mask's or heat map's name in the API; it is loaded when it is first shown. */
  constructor(view, { group, kind, title, pattern = "plain" }) {
    Object.assign(this, {
      view,
      group,
      kind,
      title,
      pattern,
      shown: false,
      source: null,
      labels: null,
    });
    this.canvas = el("canvas", { class: `overlay ${kind}`, "aria-hidden": "true" });
    this.canvas.hidden = true;
    view.stage.append(this.canvas);
  }

  /** Point the overlay at an image; `path` is null where the image has no such overlay. */
  setSource(path) {
    this.source = path;
    this.labels = null;
    this.loading = null;
    this.canvas.width = 0; // frees its memory
    return this.shown ? this.setShown(true) : undefined;
  }

  get available() {
    return this.source !== null;
  }

  async setShown(shown) {
    this.shown = shown;
    this.canvas.hidden = !(shown && this.available);
    if (shown && this.available) await this.load();
  }

  setOpacity(opacity) {
    this.canvas.style.opacity = opacity;
  }

  /** Load and paint once; returns the label map of a mask. */
  load() {
    const source = this.source;
    this.loading ??= getBlob(source).then(async (blob) => {
      if (source !== this.source) return null; // another image came up meanwhile
      if (this.group === "heat") return paintHeat(this.canvas, blob);
      const map = await decodeLabels(blob);
      if (source !== this.source) return null;
      new LabelPainter(this.canvas, map.width, map.height, this.pattern).paint(map.labels);
      this.labels = map;
      return map;
    });
    return this.loading;
  }
}
