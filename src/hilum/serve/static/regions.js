// Shapes and areas on a label map: strokes, polygons, connected areas, holes, smooth borders. Each
// function changes a LabelMap in place (after `touch`) and returns the rectangle that it covered.
// `ink` is what a tool writes: {label, over}, where over(old) says which labels it may replace.

function clipped({ left, top, right, bottom }, { width, height }) {
  return {
    left: Math.max(0, left),
    top: Math.max(0, top),
    right: Math.min(width, right),
    bottom: Math.min(height, bottom),
  };
}

function writeRow(map, y, from, to, ink) {
  const { labels, width } = map;
  const end = y * width + Math.min(width, to);
  for (let at = y * width + Math.max(0, from); at < end; at++)
    if (ink.over(labels[at])) labels[at] = ink.label;
}

/** Stamp a round brush along a line: all pixels whose centre is within `radius` of it. */
export function stroke(map, from, to, radius, ink) {
  const edge = Math.ceil(radius) + 1;
  const rect = clipped(
    {
      left: Math.floor(Math.min(from.column, to.column)) - edge,
      top: Math.floor(Math.min(from.row, to.row)) - edge,
      right: Math.ceil(Math.max(from.column, to.column)) + edge,
      bottom: Math.ceil(Math.max(from.row, to.row)) + edge,
    },
    map,
  );
  if (rect.right <= rect.left || rect.bottom <= rect.top) return rect;
  map.touch(rect);
  const [dx, dy] = [to.column - from.column, to.row - from.row];
  const length = Math.hypot(dx, dy);
  const [nx, ny] = length ? [(-dy / length) * radius, (dx / length) * radius] : [0, 0];
  const corners = [
    [from.column + nx, from.row + ny],
    [to.column + nx, to.row + ny],
    [to.column - nx, to.row - ny],
    [from.column - nx, from.row - ny],
  ];
  for (let y = rect.top; y < rect.bottom; y++) {
    const spans = [
      disc(from, radius, y + 0.5),
      disc(to, radius, y + 0.5),
      crossing(corners, y + 0.5),
    ].filter(Boolean);
    if (!spans.length) continue;
    const first = Math.min(...spans.map(([start]) => start));
    const last = Math.max(...spans.map(([, end]) => end));
    writeRow(map, y, Math.ceil(first - 0.5), Math.floor(last - 0.5) + 1, ink);
  }
  return rect;
}

function disc({ column, row }, radius, y) {
  const half = radius ** 2 - (y - row) ** 2;
  return half < 0 ? null : [column - Math.sqrt(half), column + Math.sqrt(half)];
}

/** Return where a horizontal line enters and leaves a convex polygon. */
function crossing(corners, y) {
  const found = crossings(corners, y);
  return found.length < 2 ? null : [found[0], found.at(-1)];
}

function crossings(corners, y) {
  const found = [];
  corners.forEach(([x1, y1], at) => {
    const [x2, y2] = corners[(at + 1) % corners.length];
    if (y1 <= y !== y2 <= y) found.push(x1 + ((y - y1) / (y2 - y1)) * (x2 - x1));
  });
  return found.sort((a, b) => a - b);
}

/** Fill a polygon of points {column, row} by the even-odd rule. */
export function polygon(map, points, ink) {
  const [columns, rows] = [points.map((point) => point.column), points.map((point) => point.row)];
  const rect = clipped(
    {
      left: Math.floor(Math.min(...columns)),
      top: Math.floor(Math.min(...rows)),
      right: Math.ceil(Math.max(...columns)) + 1,
      bottom: Math.ceil(Math.max(...rows)) + 1,
    },
    map,
  );
  if (rect.right <= rect.left || rect.bottom <= rect.top) return rect;
  map.touch(rect);
  const corners = points.map(({ column, row }) => [column, row]);
  for (let y = rect.top; y < rect.bottom; y++) {
    const found = crossings(corners, y + 0.5);
    for (let at = 0; at + 1 < found.length; at += 2)
      writeRow(map, y, Math.ceil(found[at] - 0.5), Math.floor(found[at + 1] - 0.5) + 1, ink);
  }
  return rect;
}

/** Give the connected area of one label around a point another label, row by row. */
export function fill(map, { column, row }, ink) {
  const { labels, width, height } = map;
  const start = Math.floor(row) * width + Math.floor(column);
  const old = labels[start];
  if (old === ink.label || !ink.over(old)) return { left: 0, top: 0, right: 0, bottom: 0 };
  map.touch(map.whole);
  const rect = { left: width, top: height, right: 0, bottom: 0 };
  const waiting = [start];
  while (waiting.length) {
    const seed = waiting.pop();
    if (labels[seed] !== old) continue;
    const y = Math.floor(seed / width);
    let [from, to] = [seed, seed + 1];
    while (from > y * width && labels[from - 1] === old) from--;
    while (to < (y + 1) * width && labels[to] === old) to++;
    labels.fill(ink.label, from, to);
    rect.left = Math.min(rect.left, from - y * width);
    rect.right = Math.max(rect.right, to - y * width);
    rect.top = Math.min(rect.top, y);
    rect.bottom = Math.max(rect.bottom, y + 1);
    if (y > 0) addRuns(labels, old, from - width, to - width, waiting);
    if (y < height - 1) addRuns(labels, old, from + width, to + width, waiting);
  }
  return rect;
}

function addRuns(labels, old, from, to, waiting) {
  for (let at = from; at < to; at++)
    if (labels[at] === old && (at === from || labels[at - 1] !== old)) waiting.push(at);
}

/** Fill the holes of a label: unlabelled pixels that no path of such pixels joins to the border. */
export function fillHoles(map, label) {
  const { width, height } = map;
  const [w, h] = [width + 2, height + 2]; // a frame, so that the outside is one area
  const outside = { width: w, height: h, labels: new Uint8Array(w * h), touch: () => {} };
  for (let y = 0; y < height; y++) {
    for (let x = 0, at = y * width, to = (y + 1) * w + 1; x < width; x++, at++, to++)
      outside.labels[to] = map.labels[at] === label ? 1 : 0;
  }
  fill(outside, { column: 0, row: 0 }, { label: 2, over: (old) => old === 0 });
  map.touch(map.whole);
  for (let y = 0; y < height; y++) {
    for (let x = 0, at = y * width, to = (y + 1) * w + 1; x < width; x++, at++, to++) {
      if (outside.labels[to] === 0 && map.labels[at] === 0) map.labels[at] = label;
    }
  }
  return map.whole;
}

/** Smooth the border of a label: a pixel belongs to it when most of its neighbourhood does.
 *
 *  The neighbourhood is two boxes one after the other, nearly round; the majority closes
 *  notches and opens spurs of up to `radius` alike, and moves a straight border nowhere. */
export function smooth(map, label, radius) {
  const rect = extent(map, label, 2 * radius + 2);
  if (!rect) return { left: 0, top: 0, right: 0, bottom: 0 };
  map.touch(rect);
  const [width, height] = [rect.right - rect.left, rect.bottom - rect.top];
  let field = new Float32Array(width * height);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, at = (rect.top + y) * map.width + rect.left; x < width; x++, at++, to++)
      field[to] = map.labels[at] === label ? 1 : 0;
  }
  for (let pass = 0; pass < 2; pass++)
    field = boxMean(boxMean(field, width, height, radius, true), width, height, radius, false);
  for (let y = 0, from = 0; y < height; y++) {
    for (let x = 0, at = (rect.top + y) * map.width + rect.left; x < width; x++, at++, from++) {
      const old = map.labels[at];
      if (old === label && field[from] < 0.5) map.labels[at] = 0;
      else if (old === 0 && field[from] > 0.5) map.labels[at] = label;
    }
  }
  return rect;
}

function extent(map, label, margin) {
  const rect = { left: map.width, top: map.height, right: 0, bottom: 0 };
  for (let y = 0, at = 0; y < map.height; y++) {
    for (let x = 0; x < map.width; x++, at++) {
      if (map.labels[at] !== label) continue;
      if (x < rect.left) rect.left = x;
      if (x >= rect.right) rect.right = x + 1;
      if (y < rect.top) rect.top = y;
      rect.bottom = y + 1;
    }
  }
  if (!rect.right) return null;
  return clipped(
    {
      left: rect.left - margin,
      top: rect.top - margin,
      right: rect.right + margin,
      bottom: rect.bottom + margin,
    },
    map,
  );
}

/** Mean over 2 radius + 1 pixels along rows or columns; pixels outside count as 0. */
function boxMean(field, width, height, radius, alongRows) {
  const result = new Float32Array(field.length);
  const [lines, length, next, step] = alongRows
    ? [height, width, width, 1]
    : [width, height, 1, width];
  const size = 2 * radius + 1;
  for (let line = 0; line < lines; line++) {
    const start = line * next;
    let sum = 0;
    for (let at = 0; at < Math.min(radius, length); at++) sum += field[start + at * step];
    for (let at = 0; at < length; at++) {
      if (at + radius < length) sum += field[start + (at + radius) * step];
      if (at > radius) sum -= field[start + (at - radius - 1) * step];
      result[start + at * step] = sum / size;
    }
  }
  return result;
}
