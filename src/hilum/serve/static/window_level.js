// Window and level: which stored value is black, which is white.

const OPAQUE = 0xff000000;

/** A linear window from `low` (black) to `high` (white); `inverted` exchanges the two. */
export class Window {
  constructor(low, high, inverted = false) {
    this.low = low;
    this.high = Math.max(high, low + 1);
    this.inverted = inverted;
    // RGBA as one number, as ImageData has it on little-endian machines.
    this.lut = new Uint32Array(65536);
    this.fill();
  }

  fill() {
    const { lut, low, high } = this;
    const slope = 255 / (high - low);
    const flip = this.inverted ? 255 : 0;
    for (let value = 0; value < 65536; value++) {
      const scaled = (value - low) * slope;
      const grey = (scaled < 0 ? 0 : scaled > 255 ? 255 : scaled + 0.5) ^ flip;
      lut[value] = OPAQUE | (grey << 16) | (grey << 8) | grey;
    }
  }

  set(low, high, inverted = this.inverted) {
    // A window of no width, or one that left the range of values, would show nothing at all.
    const width = Math.min(Math.max(high - low, 1), 131072);
    const centre = Math.min(Math.max((low + high) / 2, 0), 65535);
    Object.assign(this, { low: centre - width / 2, high: centre + width / 2, inverted });
    this.fill();
  }

  /** Move by fractions of the window as read: `wider` of its width, `brighter` of its level. */
  adjust(wider, brighter, pixels) {
    const unit = pixels.high - pixels.low;
    const width = Math.max(this.high - this.low + wider * unit, unit / 500);
    const centre = (this.low + this.high) / 2 - brighter * unit;
    this.set(centre - width / 2, centre + width / 2);
  }

  /** Take over another image's window, which is carried over relative to both windows as read. */
  follow(other, theirs, mine) {
    const scale = (mine.high - mine.low) / (theirs.high - theirs.low);
    const carry = (value) => mine.low + (value - theirs.low) * scale;
    this.set(carry(other.low), carry(other.high), other.inverted);
  }
}

// Quantiles of the image: air-filled lung is its dark part, bone and mediastinum are its bright
// part.
export const PRESETS = [
  { key: "as-read", name: "As read", of: (pixels) => [pixels.low, pixels.high, false] },
  {
    key: "lung",
    name: "Lung",
    of: (pixels) => [pixels.quantile(0.03), pixels.quantile(0.68), false],
  },
  {
    key: "bone",
    name: "Bone",
    of: (pixels) => [pixels.quantile(0.4), pixels.quantile(0.999), false],
  },
  { key: "inverted", name: "Inverted", of: (pixels) => [pixels.low, pixels.high, true] },
];
