// Changes of labels, images and issues, with the revision that the reader saw. Where somebody else
// changed the same thing meanwhile, the reader sees what, and decides.

import { Refused, send } from "./api.js";
import { ask, notice } from "./dialogs.js";
import { el, when } from "./dom.js";

/** Let the reader choose between another's revision and the own change; true: the own one. */
export async function choose(current, own, details = null) {
  const theirs = current
    ? `Revision ${current.number} by ${current.author}, ${when(current.time)}: ${current.what}`
    : "It was changed meanwhile.";
  const content = el(
    "div",
    {},
    el(
      "p",
      {},
      "Somebody changed this after you opened it. Nothing of yours was written, " +
        "and nothing of theirs is lost.",
    ),
    el("p", {}, el("b", {}, "Theirs: "), theirs),
    el("p", {}, el("b", {}, "Yours: "), own),
    details,
  );
  const answer = await ask("Two changes of the same thing", content, {
    confirm: "Write mine after theirs",
    cancel: "Keep theirs",
    wide: Boolean(details),
  });
  return answer !== null;
}

/** Send a change; returns the answer, or null where the reader kept another's change. */
export async function change(path, body, own) {
  try {
    return await send("POST", path, body);
  } catch (error) {
    if (!(error instanceof Refused && error.status === 409 && error.current !== undefined))
      throw error;
    if (!(await choose(error.current, own))) return null;
    return send("POST", path, { ...body, expected: error.current?.number ?? 0 });
  }
}

/** Say that a change was made, with the way back. `after` runs once it was undone. */
export function confirmChange(text, revision, after) {
  const undo = async () => {
    try {
      await send("POST", `/api/v1/revisions/${revision}/undo`, {});
      notice("undone");
      after();
    } catch (error) {
      notice(error.message, { error: true });
    }
  };
  notice(text, { action: revision ? { name: "Undo", run: undo } : null });
}
