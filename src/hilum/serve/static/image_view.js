// One image on the page: its pixels through a window, zoom and pan, and what lies over it.
//
// The film is a canvas as large as the pane and is drawn anew for each view; overlays lie on
// canvases of their own in the image's pixels, which the browser moves and scales. So a window step
// never touches an overlay, and a brush stroke never touches the film.

import { el, svg } from "./dom.js";
import { valueAt } from "./pixels.js";
import { Window } from "./window_level.js";

const SHARPEST = 2; // device pixels for a CSS pixel that the film is drawn with at most
const PIXELS_SHOW = 4; // magnification from which pixels are drawn as squares
const MOST = 64; // largest magnification

export class ImageView {
  constructor(pane) {
    this.film = el("canvas", { class: "film", "aria-hidden": "true" });
    this.stage = el("div", { class: "stage" });
    this.marks = svg("svg", { class: "marks", "aria-hidden": "true" });
    this.pane = pane;
    pane.append(this.film, this.stage, this.marks);
    this.context = this.film.getContext("2d", { alpha: false });
    this.scratch = document.createElement("canvas");
    this.listeners = { view: [], window: [], image: [] };
    this.pixels = null;
    this.scheduled = false;
    new ResizeObserver(() => this.resized()).observe(pane);
  }

  on(what, listener) {
    this.listeners[what].push(listener);
  }

  changed(what) {
    for (const listener of this.listeners[what]) listener(this);
    this.schedule();
  }

  show(pixels, { keepView = false } = {}) {
    const before = this.pixels;
    this.pixels = pixels;
    this.window = new Window(pixels.low, pixels.high);
    this.stage.style.width = `${pixels.width}px`;
    this.stage.style.height = `${pixels.height}px`;
    this.measurePane();
    if (!(keepView && before?.width === pixels.width && before.height === pixels.height))
      this.fit();
    this.changed("image");
    this.render();
  }

  measurePane() {
    const { width, height } = this.pane.getBoundingClientRect();
    this.ratio = Math.min(window.devicePixelRatio || 1, SHARPEST);
    Object.assign(this, { width, height });
    this.film.width = Math.max(1, Math.round(width * this.ratio));
    this.film.height = Math.max(1, Math.round(height * this.ratio));
  }

  resized() {
    if (!this.pixels) return;
    const relative = this.relative();
    this.measurePane();
    this.place(relative);
    this.render();
  }

  fitScale() {
    return Math.max(
      0.001,
      Math.min(this.width / this.pixels.width, this.height / this.pixels.height),
    );
  }

  fit() {
    this.place({ zoom: 1, u: 0.5, v: 0.5 });
  }

  /** Return the view in terms that hold for an image of another size: magnification, and the
   *  centre. */
  relative() {
    const { pixels } = this;
    return {
      zoom: this.scale / this.fitScale(),
      u: (this.width / 2 - this.x) / this.scale / pixels.width,
      v: (this.height / 2 - this.y) / this.scale / pixels.height,
    };
  }

  place({ zoom, u, v }) {
    this.scale = zoom * this.fitScale();
    this.x = this.width / 2 - u * this.pixels.width * this.scale;
    this.y = this.height / 2 - v * this.pixels.height * this.scale;
    this.changed("view");
  }

  zoomAt(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.fitScale() / 4), MOST);
    const by = scale / this.scale;
    Object.assign(this, { scale, x: x - (x - this.x) * by, y: y - (y - this.y) * by });
    this.changed("view");
  }

  panBy(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.changed("view");
  }

  setWindow(low, high, inverted) {
    this.window.set(low, high, inverted);
    this.changed("window");
  }

  adjustWindow(wider, brighter) {
    this.window.adjust(wider, brighter, this.pixels);
    this.changed("window");
  }

  /** Return where a point of the page lies: `x`, `y` in the pane, `column`, `row` in the image. */
  point(event) {
    const box = this.pane.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return { x, y, column: (x - this.x) / this.scale, row: (y - this.y) / this.scale };
  }

  /** Return the place in the pane of a point of the image. */
  toPane(column, row) {
    return [this.x + column * this.scale, this.y + row * this.scale];
  }

  valueAt(point) {
    return valueAt(this.pixels, point.column, point.row);
  }

  schedule() {
    if (this.scheduled || !this.pixels) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.render();
    });
  }

  /** Draw the part of the film that is in the pane. */
  render() {
    const { context, film, ratio, window: shown } = this;
    const scale = this.scale * ratio;
    this.stage.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("magnified", this.scale >= PIXELS_SHOW);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, film.width, film.height);
    const level = this.levelFor(scale);
    const part = this.visible(level, scale);
    if (!part) return;
    this.throughWindow(level, part, shown.lut);
    const unit = level.factor * scale;
    context.imageSmoothingEnabled = this.scale < PIXELS_SHOW;
    context.drawImage(
      this.scratch,
      0,
      0,
      part.width,
      part.height,
      this.x * ratio + part.left * unit,
      this.y * ratio + part.top * unit,
      part.width * unit,
      part.height * unit,
    );
  }

  levelFor(scale) {
    const { levels } = this.pixels;
    // The coarsest copy that still has a pixel for each pixel of the screen.
    return levels.findLast((level) => level.factor * scale <= 1) ?? levels[0];
  }

  visible(level, scale) {
    const unit = level.factor * scale;
    const left = Math.max(0, Math.floor((-this.x * this.ratio) / unit));
    const top = Math.max(0, Math.floor((-this.y * this.ratio) / unit));
    const right = Math.min(level.width, Math.ceil((this.film.width - this.x * this.ratio) / unit));
    const bottom = Math.min(
      level.height,
      Math.ceil((this.film.height - this.y * this.ratio) / unit),
    );
    return right > left && bottom > top
      ? { left, top, width: right - left, height: bottom - top }
      : null;
  }

  throughWindow(level, { left, top, width, height }, lut) {
    const { scratch } = this;
    if (scratch.width < width) scratch.width = width;
    if (scratch.height < height) scratch.height = height;
    this.scratchContext ??= scratch.getContext("2d");
    if (this.buffer?.width !== width || this.buffer.height !== height)
      this.buffer = new ImageData(width, height);
    const shown = new Uint32Array(this.buffer.data.buffer);
    const { data, width: stride } = level;
    for (let y = 0, to = 0; y < height; y++) {
      for (let at = (top + y) * stride + left, end = at + width; at < end; at++, to++)
        shown[to] = lut[data[at]];
    }
    this.scratchContext.putImageData(this.buffer, 0, 0);
  }
}
