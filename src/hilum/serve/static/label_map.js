// The mask in work: one label for each pixel, with its history and its overlap with the reference.
//
// The map is cut into tiles. A change first keeps the tiles that it is about to touch; undo
// exchanges kept tiles with those of the map, which makes redo the same operation. So a stroke
// costs what it covers, not what the image has.

const TILE = 128; // pixels
const HISTORY = 96 * 2 ** 20; // bytes of kept tiles; the oldest changes go first

export class LabelMap {
  constructor(width, height, labels = new Uint8Array(width * height)) {
    Object.assign(this, { width, height, labels });
    this.across = Math.ceil(width / TILE);
    this.down = Math.ceil(height / TILE);
    this.done = []; // changes: Map of tile number to its labels before
    this.undone = [];
    this.open = null;
    this.bytes = 0;
  }

  /** Keep what is within a rectangle before it is changed. A change may touch many rectangles. */
  touch({ left, top, right, bottom }) {
    this.open ??= new Map();
    const [x1, y1] = [
      Math.min(this.across - 1, Math.floor((right - 1) / TILE)),
      Math.min(this.down - 1, Math.floor((bottom - 1) / TILE)),
    ];
    for (let y = Math.max(0, Math.floor(top / TILE)); y <= y1; y++) {
      for (let x = Math.max(0, Math.floor(left / TILE)); x <= x1; x++) {
        const tile = y * this.across + x;
        if (!this.open.has(tile)) this.open.set(tile, this.tile(tile));
      }
    }
  }

  box(tile) {
    const left = (tile % this.across) * TILE;
    const top = Math.floor(tile / this.across) * TILE;
    return {
      left,
      top,
      right: Math.min(left + TILE, this.width),
      bottom: Math.min(top + TILE, this.height),
    };
  }

  tile(number) {
    const { left, top, right, bottom } = this.box(number);
    const kept = new Uint8Array((right - left) * (bottom - top));
    for (let y = top, to = 0; y < bottom; y++, to += right - left) {
      kept.set(this.labels.subarray(y * this.width + left, y * this.width + right), to);
    }
    return kept;
  }

  differs(number, kept) {
    const { left, top, right, bottom } = this.box(number);
    for (let y = top, to = 0; y < bottom; y++) {
      for (let at = y * this.width + left, end = at + right - left; at < end; at++, to++) {
        if (this.labels[at] !== kept[to]) return true;
      }
    }
    return false;
  }

  setTile(number, kept) {
    const { left, top, right, bottom } = this.box(number);
    const wide = right - left;
    for (let y = top, at = 0; y < bottom; y++, at += wide)
      this.labels.set(kept.subarray(at, at + wide), y * this.width + left);
  }

  /** End a change. Returns the tiles that differ; a change of nothing leaves no trace. */
  commit() {
    const change = this.open ?? new Map();
    this.open = null;
    for (const [tile, before] of change) {
      if (!this.differs(tile, before)) change.delete(tile);
      else this.bytes += before.length;
    }
    if (!change.size) return [];
    this.done.push(change);
    for (const gone of this.undone) this.forget(gone);
    this.undone = [];
    while (this.bytes > HISTORY && this.done.length > 1) this.forget(this.done.shift());
    return [...change.keys()];
  }

  forget(change) {
    for (const kept of change.values()) this.bytes -= kept.length;
  }

  /** Take back what is not committed; returns its tiles. */
  cancel() {
    const change = this.open ?? new Map();
    for (const [tile, before] of change) this.setTile(tile, before);
    this.open = null;
    return [...change.keys()];
  }

  undo() {
    return this.exchange(this.done, this.undone);
  }

  redo() {
    return this.exchange(this.undone, this.done);
  }

  exchange(from, to) {
    const change = from.pop();
    if (!change) return [];
    for (const [tile, other] of change) {
      const now = this.tile(tile);
      this.setTile(tile, other);
      change.set(tile, now);
    }
    to.push(change);
    return [...change.keys()];
  }

  /** What stands, as something to compare: the last change, which undo and redo bring back. */
  get state() {
    return this.done.at(-1) ?? null;
  }

  get whole() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }
}

/** Dice of two label maps for right, left and both lungs, kept up to date tile by tile. Pixels
 *  that either map ignores do not count (as in `hilum.statistics`). Nan where both are empty. */
export class Overlap {
  constructor(map, reference) {
    Object.assign(this, { map, reference });
    this.counts = Array.from({ length: map.across * map.down }, (_, tile) => this.count(tile));
  }

  count(tile) {
    const { left, top, right, bottom } = this.map.box(tile);
    const sums = new Uint32Array(6); // for each lung: in both, in the map, in the reference
    for (let y = top; y < bottom; y++) {
      for (let x = left, at = y * this.map.width + left; x < right; x++, at++) {
        const [mine, theirs] = [this.map.labels[at], this.reference[at]];
        if (mine === 255 || theirs === 255 || !(mine | theirs)) continue;
        if (mine === theirs) sums[3 * mine - 3]++;
        if (mine) sums[3 * mine - 2]++;
        if (theirs) sums[3 * theirs - 1]++;
      }
    }
    return sums;
  }

  update(tiles) {
    for (const tile of tiles) this.counts[tile] = this.count(tile);
  }

  dice() {
    const total = new Float64Array(6);
    for (const sums of this.counts)
      sums.forEach((value, at) => {
        total[at] += value;
      });
    const [rightBoth, rightMine, rightTheirs, leftBoth, leftMine, leftTheirs] = total;
    const of = (both, mine, theirs) => (2 * both) / (mine + theirs);
    return {
      right: of(rightBoth, rightMine, rightTheirs),
      left: of(leftBoth, leftMine, leftTheirs),
    };
  }
}
