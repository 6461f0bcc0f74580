// Pixels of an image as the server read them: 16 bit, upright, bright is dense, row by row.
// Halved copies are kept beside them, so that a window step touches about as many pixels as the
// screen has, however large the image is.

import { get } from "./api.js";

const SMALLEST = 256; // pixels; no copy is smaller

/** Return the image at half its size, each pixel the mean of four. An odd last row or column
 *  goes. */
function halved({ width, height, data, factor }) {
  const [w, h] = [width >> 1, height >> 1];
  const half = new Uint16Array(w * h);
  for (let y = 0, to = 0; y < h; y++) {
    for (let x = 0, at = 2 * y * width; x < w; x++, at += 2, to++) {
      half[to] = (data[at] + data[at + 1] + data[at + width] + data[at + width + 1] + 2) >> 2;
    }
  }
  return { width: w, height: h, data: half, factor: 2 * factor };
}

export function pyramid(width, height, data) {
  const levels = [{ width, height, data, factor: 1 }];
  for (
    let last = levels[0];
    Math.min(last.width, last.height) >= 2 * SMALLEST;
    last = levels.at(-1)
  )
    levels.push(halved(last));
  return levels;
}

/** Return a function from fraction to value: the quantile of the smallest copy's pixels. */
function quantiles({ data }) {
  const counts = new Uint32Array(65536);
  for (const value of data) counts[value]++;
  return (fraction) => {
    let left = fraction * data.length;
    for (let value = 0; value < counts.length; value++) {
      left -= counts[value];
      if (left <= 0) return value;
    }
    return counts.length - 1;
  };
}

/** Load an image: width, height, levels, its window as read, and mm between pixels or null. */
export async function loadPixels(row, { signal, run } = {}) {
  const response = await get(
    `/api/v1/images/${row}/pixels${run ? `?run=${encodeURIComponent(run)}` : ""}`,
    { signal },
  );
  const number = (name) => (response.headers.has(name) ? Number(response.headers.get(name)) : null);
  const [width, height] = [number("X-Width"), number("X-Height")];
  const levels = pyramid(width, height, new Uint16Array(await response.arrayBuffer()));
  const spacing = { row: number("X-Row-Spacing-Mm"), column: number("X-Column-Spacing-Mm") };
  return {
    width,
    height,
    levels,
    low: number("X-Low"),
    high: number("X-High"),
    spacing: spacing.row ? spacing : null,
    quantile: quantiles(levels.at(-1)),
  };
}

export function valueAt(pixels, column, row) {
  const inside = column >= 0 && row >= 0 && column < pixels.width && row < pixels.height;
  return inside ? pixels.levels[0].data[Math.floor(row) * pixels.width + Math.floor(column)] : null;
}
