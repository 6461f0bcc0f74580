// The blind second reading: states of findings, without the labels, calls and issues of the first.

import { change } from "./changes.js";
import { attempt } from "./dialogs.js";
import { el } from "./dom.js";
import { section } from "./panel.js";

const STATES = ["present", "absent", "uncertain"];

/** Return the panel's section; `changed` runs after each reading, `next` leads to the next
 *  image. */
export function readingSection(facts, { readOnly, changed, next }) {
  const finding = (reading) => {
    const read = async (state) => {
      const body = { row: facts.row, concept: reading.concept, state, expected: reading.revision };
      if (await attempt(() => change("/api/v1/readings", body, `${reading.name}: ${state}`)))
        changed();
    };
    const button = (state) =>
      el(
        "button",
        {
          type: "button",
          "aria-pressed": String(reading.state === state),
          disabled: readOnly,
          onclick: () => read(state),
        },
        state,
      );
    return el(
      "fieldset",
      {},
      el("legend", {}, reading.name),
      el(
        "div",
        { class: "choices", role: "group", "aria-label": reading.name },
        STATES.map(button),
      ),
    );
  };
  const done = facts.readings.filter((reading) => reading.state).length;
  return section(
    "reading",
    ["Your reading ", el("span", { class: "count" }, `${done} of ${facts.readings.length}`)],
    el(
      "p",
      { class: "soft" },
      "Labels, calls and issues are hidden until you leave the second reading. " +
        "Each choice is kept at once.",
    ),
    el("div", { class: "reading" }, facts.readings.map(finding)),
    el(
      "p",
      { class: "actions" },
      el(
        "button",
        { type: "button", class: "primary", onclick: next, disabled: facts.position.next === null },
        "Next image",
      ),
    ),
  );
}
