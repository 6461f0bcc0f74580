// Keeping a drawn mask on the server, and what to do when somebody else was quicker.

import { getBlob, getJson, Refused, send } from "./api.js";
import { choose } from "./changes.js";
import { el } from "./dom.js";
import { decodeLabels, LabelPainter } from "./overlays.js";
import { encodeLabels } from "./png.js";

const path = (row) => `/api/v1/images/${row}/masks/corrected`;

function put(row, png, revision) {
  return send("PUT", path(row), png, { "Content-Type": "image/png", "If-Match": `"${revision}"` });
}

function preview({ width, height, labels }, title) {
  const canvas = el("canvas", { role: "img", "aria-label": title });
  new LabelPainter(canvas, width, height, "plain").paint(labels);
  return el("figure", {}, canvas, el("figcaption", {}, title));
}

/** Save a draft; returns the new revision, or null where the reader kept the other's mask.
 *  The draft stays as it is either way, so nothing that was drawn is lost. */
export async function saveMask(row, draft) {
  const { map } = draft;
  const { state } = map;
  const png = await encodeLabels(map.labels, map.width, map.height);
  let answer;
  try {
    answer = await put(row, png, draft.revision);
  } catch (error) {
    if (!(error instanceof Refused && error.status === 409 && error.current)) throw error;
    const theirs = await getBlob(path(row)).then(decodeLabels, () => null);
    const both = el(
      "div",
      { class: "conflict" },
      theirs
        ? preview(theirs, `Theirs: ${error.current.author}`)
        : el("p", {}, "Theirs: the mask was taken back."),
      preview(map, "Yours"),
    );
    if (!(await choose(error.current, "the mask that you drew", both))) return null;
    answer = await put(row, png, error.current.number);
  }
  Object.assign(draft, { revision: answer.revision, saved: state });
  return answer.revision;
}

export function removeMask(row, revision) {
  return send("DELETE", path(row), undefined, { "If-Match": `"${revision}"` });
}

/** Ask how a mask compares with usual lungs; nothing is kept. */
export async function plausibility(row, map) {
  const png = await encodeLabels(map.labels, map.width, map.height);
  return send("POST", `/api/v1/images/${row}/plausibility`, png, { "Content-Type": "image/png" });
}

/** Return the row whose mask would help the next model most, other than this one; null at the
 *  end. */
export async function nextToDraw(row) {
  const { rows } = await getJson(`/api/v1/next-to-draw?limit=2&after=${row}`);
  return rows.find((one) => one.row !== row)?.row ?? null;
}
