// One issue of the audit as a card: what was observed, what may be done, what was decided.
// The viewer's panel and the page of issues show the same card.

import { getJson } from "./api.js";
import { change, confirmChange } from "./changes.js";
import { CORRECTIONS, STATES } from "./choices.js";
import { ask, askReason, attempt } from "./dialogs.js";
import { $, el, pageData, when } from "./dom.js";

const SIGNS = { error: "✕", warning: "▲", info: "i" };
const DECIDED = {
  open: "○ open",
  accepted: "✓ accepted",
  dismissed: "– dismissed",
  mended: "✎ mended",
};

export const severity = (level) =>
  el("span", { class: `level ${level}` }, `${SIGNS[level] ?? ""} ${level}`);

/** Send a decision; `corrections` are those that the server offered. Returns whether it was
 *  made. */
async function decide(issue, decision, { reason = null, corrections = [] } = {}) {
  const body = { decision, reason, corrections, expected: issue.revision };
  const answer = await attempt(() =>
    change(
      `/api/v1/issues/${issue.number}`,
      body,
      `${decision}${corrections.length ? `: ${corrections[0].title}` : ""}`,
    ),
  );
  return answer ?? null;
}

/** A sheet of every correction there is; resolves with the chosen entry, or null. */
async function chooseRemedy() {
  const { concepts } = pageData("study-data");
  const label = { action: "set label", title: "Correct a label", value: null };
  const all = [
    ...CORRECTIONS.map(([action, title, value]) => ({ action, title, value })),
    ...(concepts.length ? [label] : []),
  ];
  const select = el(
    "select",
    { name: "remedy" },
    all.map(({ title }, at) => el("option", { value: at }, title)),
  );
  const patient = el(
    "label",
    { class: "field" },
    el("span", {}, "Patient"),
    el("input", { name: "value", maxlength: 200 }),
  );
  const finding = el(
    "div",
    { class: "pairwise" },
    el(
      "label",
      { class: "field" },
      el("span", {}, "Label"),
      el(
        "select",
        { name: "concept" },
        concepts.map(({ id, name }) => el("option", { value: id }, name)),
      ),
    ),
    el(
      "label",
      { class: "field" },
      el("span", {}, "State"),
      el(
        "select",
        { name: "state" },
        STATES.map((state) => el("option", {}, state)),
      ),
    ),
  );
  const show = () => {
    const { action } = all[select.value];
    patient.hidden = action !== "set patient";
    $("input", patient).required = !patient.hidden;
    finding.hidden = action !== "set label";
  };
  select.addEventListener("change", show);
  show();
  const answer = await ask(
    "Mend the issue",
    el(
      "div",
      {},
      el("label", { class: "field" }, el("span", {}, "Correction"), select),
      patient,
      finding,
    ),
    { confirm: "Mend" },
  );
  if (!answer) return null;
  const { action, title, value } = all[answer.get("remedy")];
  if (action === "set label")
    return { action, concept: answer.get("concept"), state: answer.get("state") };
  return { action, title, value: value === "" ? answer.get("value").trim() : value, other: null };
}

/** Set a label because of an issue. Labels are kept by themselves, so that the next reader sees
 *  one. */
async function setLabel(issue, { concept, state }) {
  const { labels } = await getJson(`/api/v1/images/${issue.row}`);
  const { revision, name } = labels.find((one) => one.concept === concept);
  const body = { concept, state, reason: issue.rule, expected: revision };
  const answer = await change(`/api/v1/images/${issue.row}/labels`, body, `${name}: ${state}`);
  return answer && `${name} was set to ${state}`;
}

function buttons(issue, { changed }) {
  const act = async (decision, details) => {
    const answer = await decide(issue, decision, details);
    if (!answer) return;
    confirmChange(`${issue.rule}: ${decision}`, answer.revision, changed);
    changed();
  };
  const dismiss = async () => {
    const reason = await askReason("Dismiss the issue", {
      required: true,
      text: "The next audit shows it as dismissed, with your reason.",
    });
    if (reason) act("dismissed", { reason });
  };
  const otherwise = async () => {
    const remedy = await chooseRemedy();
    if (!remedy) return;
    if (remedy.action !== "set label") return void act("mended", { corrections: [remedy] });
    const reason = await attempt(() => setLabel(issue, remedy));
    if (reason) act("mended", { reason });
  };
  const mend = (remedy) =>
    el(
      "button",
      {
        type: "button",
        title: remedy.title,
        onclick: () => act("mended", { corrections: [remedy] }),
      },
      `✎ ${remedy.title}`,
    );
  if (issue.decision !== "open")
    return [el("button", { type: "button", onclick: () => act("open") }, "Open again")];
  return [
    el("button", { type: "button", onclick: () => act("accepted") }, "✓ Accept"),
    el("button", { type: "button", onclick: dismiss }, "– Dismiss …"),
    ...issue.corrections.map(mend),
    issue.row !== null &&
      el("button", { type: "button", onclick: otherwise }, "✎ Mend otherwise …"),
  ];
}

/** Return the card; `changed` runs after each decision. `linked` adds links and thumbnails. */
export function issueCard(issue, { readOnly, linked = false, ...options }) {
  const image = (row, name) =>
    linked &&
    row !== null &&
    el(
      "a",
      { href: `/images/${row}`, class: "issue-image" },
      el("img", {
        src: `/api/v1/images/${row}/thumbnail`,
        alt: "",
        loading: "lazy",
        width: 160,
        height: 160,
      }),
      el("span", {}, name),
    );
  const decided =
    issue.decision !== "open" &&
    el(
      "p",
      { class: "soft" },
      [`${issue.decision} by ${issue.author}, ${when(issue.time)}`, issue.reason]
        .filter(Boolean)
        .join(": "),
    );
  return el(
    "article",
    { class: `issue ${issue.decision}`, "data-issue": issue.number },
    // On the page of issues the heading above the cards has named the rule and its remedy.
    el(
      "div",
      {},
      severity(issue.severity),
      " ",
      !linked && el("b", {}, issue.rule),
      el("span", { class: "soft small" }, ` ${DECIDED[issue.decision]}`),
    ),
    linked &&
      el(
        "div",
        { class: "issue-images" },
        image(issue.row, issue.image_id),
        image(issue.other_row, issue.other_image_id),
      ),
    el("p", {}, issue.message),
    !linked && issue.remedy && el("p", { class: "soft" }, issue.remedy),
    !linked &&
      issue.other_row !== null &&
      issue.other_row !== undefined &&
      el("p", {}, el("a", { href: `/images/${issue.other_row}` }, "The other image")),
    decided,
    !readOnly && el("div", { class: "choices" }, buttons(issue, options)),
  );
}
