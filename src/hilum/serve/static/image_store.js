// Images that are loaded or on their way: what is known of each, and its pixels.
// The next image is loaded while this one is read, so that it is there when it is wanted.

import { getJson } from "./api.js";
import { loadPixels } from "./pixels.js";

const KEPT = 4; // images; one of 3000 x 2500 has 20 MB

export class ImageStore {
  /** `query` is that of the worklist, in whose order the images follow one another. */
  constructor(query, blind) {
    this.query = query;
    this.blind = blind;
    this.kept = new Map(); // row: {facts, pixels}, both promises, the latest used last
  }

  search() {
    const pairs = new URLSearchParams(this.query);
    if (this.blind) pairs.set("blind", "1");
    const text = pairs.toString();
    return text && `?${text}`;
  }

  address(row) {
    return `/images/${row}${this.search()}`;
  }

  get(row, known = null) {
    let found = this.kept.get(row);
    this.kept.delete(row);
    found ??= { facts: null, pixels: loadPixels(row) };
    found.facts ??= known ? Promise.resolve(known) : getJson(`/api/v1${this.address(row)}`);
    this.kept.set(row, found);
    // What failed is tried again next time.
    Promise.all([found.facts, found.pixels]).catch(() => this.kept.delete(row));
    for (const old of this.kept.keys()) if (this.kept.size > KEPT) this.kept.delete(old);
    return found;
  }

  prefetch(row) {
    if (row !== null) this.get(row);
  }

  /** Read again what is known of an image, after a change; its pixels stay. */
  refresh(row) {
    const found = this.kept.get(row);
    if (found) found.facts = null;
    return this.get(row).facts;
  }
}
