// Charts as SVG. Both axes run from 0 to 1 unless said otherwise; colours and dashes come from the
// style.

import { svg } from "./dom.js";

const SIDE = 320; // units of the drawing within the axes
const MARGIN = { left: 58, top: 8, right: 10, bottom: 40 };

function axes(xName, yName, top) {
  const parts = [];
  for (const at of [0, 0.25, 0.5, 0.75, 1]) {
    const [x, y] = [MARGIN.left + at * SIDE, MARGIN.top + (1 - at) * SIDE];
    parts.push(
      svg("line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: MARGIN.top + SIDE }),
      svg("line", { class: "grid", x1: MARGIN.left, x2: MARGIN.left + SIDE, y1: y, y2: y }),
      svg("text", { x, y: MARGIN.top + SIDE + 16, "text-anchor": "middle" }, String(at)),
      svg(
        "text",
        { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" },
        String(Number((at * top).toFixed(3))),
      ),
    );
  }
  const middle = MARGIN.top + SIDE / 2;
  parts.push(
    svg("rect", {
      class: "axis",
      x: MARGIN.left,
      y: MARGIN.top,
      width: SIDE,
      height: SIDE,
      fill: "none",
    }),
    svg(
      "text",
      { x: MARGIN.left + SIDE / 2, y: MARGIN.top + SIDE + 34, "text-anchor": "middle" },
      xName,
    ),
    svg(
      "text",
      { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` },
      yName,
    ),
  );
  return parts;
}

/** Return a chart: `curves` are lists of [x, y]; the second is dashed. `point` is marked. */
export function chart({ name, xName, yName, curves, point = null, diagonal = false, top = 1 }) {
  const place = ([x, y]) => [
    MARGIN.left + x * SIDE,
    MARGIN.top + (1 - Math.min(y / top, 1)) * SIDE,
  ];
  const line = (points, at) =>
    svg("polyline", {
      class: at ? "curve second" : "curve",
      points: points.map((one) => place(one).join()).join(" "),
    });
  const [width, height] = [MARGIN.left + SIDE + MARGIN.right, MARGIN.top + SIDE + MARGIN.bottom];
  const [cx, cy] = point ? place(point) : [];
  return svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name },
    axes(xName, yName, top),
    diagonal &&
      svg("line", {
        class: "chance",
        x1: MARGIN.left,
        y1: MARGIN.top + SIDE,
        x2: MARGIN.left + SIDE,
        y2: MARGIN.top,
      }),
    curves.map(line),
    point && svg("circle", { class: "point", cx, cy, r: 6 }),
  );
}

/** Return an interval between 0 and 1 as a bar with a tick at the value. */
export function interval({ value, low, high }) {
  const has = low !== null && high !== null;
  return svg(
    "svg",
    { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 5, width: 100, height: 4 }),
    has &&
      svg("rect", { x: 100 * low, y: 2, width: Math.max(0.5, 100 * (high - low)), height: 10 }),
    value !== null &&
      svg("line", {
        x1: 100 * value,
        x2: 100 * value,
        y1: 0,
        y2: 14,
        "vector-effect": "non-scaling-stroke",
      }),
  );
}
