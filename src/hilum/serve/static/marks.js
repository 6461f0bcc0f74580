// What is drawn over the image in lines and words: boxes, distances, the outline in work, the
// scale. They are drawn in the pane's coordinates, so that lines and letters keep their size at
// each zoom.

import { decimal, el, svg } from "./dom.js";

const NICE = [1, 2, 5, 10, 20, 50, 100, 200, 500]; // lengths in mm of the scale
const SCALE_WIDTH = 140; // CSS pixels that the scale has at most

export function distance(from, to, spacing) {
  const [dx, dy] = [to.column - from.column, to.row - from.row];
  if (!spacing) return `${Math.hypot(dx, dy).toFixed(1)} px`;
  return `${Math.hypot(dx * spacing.column, dy * spacing.row).toFixed(1)} mm`;
}

export class Marks {
  constructor(view) {
    this.view = view;
    this.boxes = [];
    this.boxesShown = true;
    this.lines = []; // [{from, to}] of distances
    this.outline = null; // points of the polygon in work
    this.brush = null; // {point, radius}
    this.scaleBar = el("div", { class: "scale", "aria-hidden": "true" }, el("span"));
    view.pane.append(this.scaleBar);
    view.on("view", () => this.draw());
    view.on("image", () => this.clear());
  }

  clear() {
    Object.assign(this, { lines: [], outline: null });
    this.draw();
  }

  draw() {
    const { view } = this;
    if (!view.pixels) return;
    view.marks.replaceChildren(
      ...(this.boxesShown ? this.boxes.flatMap((box) => this.box(box)) : []),
      ...this.lines.flatMap((line) => this.line(line)),
      ...(this.outline ? [this.polygon()] : []),
      ...(this.brush ? [this.circle()] : []),
    );
    this.scale();
  }

  /** Move the outline of the brush without drawing the other marks anew. */
  moveBrush(point, radius) {
    this.brush = point && { point, radius };
    const ring = this.view.marks.querySelector(".brush");
    if (!point || !ring) return this.draw();
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    ring.setAttribute("r", radius * this.view.scale);
    return undefined;
  }

  box({ name, left, top, width, height }) {
    const [x, y] = this.view.toPane(left, top);
    const { scale } = this.view;
    return [
      svg("rect", { class: "box", x, y, width: width * scale, height: height * scale }),
      svg("text", { class: "box-name", x: x + 4, y: y - 5 }, name),
    ];
  }

  line({ from, to }) {
    const [x1, y1] = this.view.toPane(from.column, from.row);
    const [x2, y2] = this.view.toPane(to.column, to.row);
    return [
      svg("line", { class: "distance", x1, y1, x2, y2 }),
      ...[
        [x1, y1],
        [x2, y2],
      ].map(([cx, cy]) => svg("circle", { class: "distance", cx, cy, r: 3 })),
      svg(
        "text",
        { class: "distance-name", x: x2 + 8, y: y2 - 6 },
        distance(from, to, this.view.pixels.spacing),
      ),
    ];
  }

  polygon() {
    const points = this.outline.map(({ column, row }) => this.view.toPane(column, row).join());
    return svg("polyline", { class: "outline", points: points.join(" ") });
  }

  circle() {
    const { point, radius } = this.brush;
    return svg("circle", { class: "brush", cx: point.x, cy: point.y, r: radius * this.view.scale });
  }

  scale() {
    const { pixels, scale } = this.view;
    this.scaleBar.hidden = !pixels.spacing;
    if (!pixels.spacing) return;
    const perMm = scale / pixels.spacing.column;
    const length = NICE.findLast((mm) => mm * perMm <= SCALE_WIDTH) ?? NICE[0];
    this.scaleBar.style.width = `${length * perMm}px`;
    this.scaleBar.firstChild.textContent = `${length} mm`;
  }
}

/** Measuring: a drag leaves a line with its length; lines stay until they are cleared. */
export function measureTool(view, marks) {
  let line = null;
  return {
    cursor: "crosshair",
    down: (point) => {
      line = { from: point, to: point };
      marks.lines.push(line);
    },
    move: (point) => {
      line.to = point;
      marks.draw();
    },
    up: () => {
      if (Math.hypot(line.to.x - line.from.x, line.to.y - line.from.y) < 3) marks.lines.pop();
      marks.draw();
    },
    cancel: () => {
      marks.lines.pop();
      marks.draw();
    },
  };
}

/** Say what is under the pointer: place, value, and millimetres from the corner where they are
 *  known. */
export function probeText(view, point) {
  const value = view.valueAt(point);
  if (value === null) return "";
  const { spacing } = view.pixels;
  const [column, row] = [Math.floor(point.column), Math.floor(point.row)];
  const place = spacing
    ? ` · ${decimal(row * spacing.row, 1)}, ${decimal(column * spacing.column, 1)} mm`
    : "";
  return `row ${row}, column ${column}${place} · value ${value}`;
}
