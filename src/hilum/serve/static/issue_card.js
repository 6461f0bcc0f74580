// One issue of the audit as a card: what was observed, what may be done, what was decided.
// The viewer's panel and the page of issues show the same card.

import { change, confirmChange } from "./changes.js";
import { askReason, attempt } from "./dialogs.js";
import { el, when } from "./dom.js";

const SIGNS = { error: "✕", warning: "▲", info: "i" };
const DECIDED = { open: "○ open", accepted: "✓ accepted", dismissed: "– dismissed", mended: "✎ mended" };

export const severity = (level) => el("span", { class: `level ${level}` }, `${SIGNS[level] ?? ""} ${level}`);

/** Send a decision; `corrections` are those that the server offered. Returns whether it was made. */
async function decide(issue, decision, { reason = null, corrections = [] } = {}) {
  const body = { decision, reason, corrections, expected: issue.revision };
  const answer = await attempt(() => change(`/api/v1/issues/${issue.number}`, body, `${decision}${corrections.length ? `: ${corrections[0].title}` : ""}`));
  return answer ?? null;
}

function buttons(issue, changed) {
  const act = async (decision, details) => {
    const answer = await decide(issue, decision, details);
    if (!answer) return;
    confirmChange(`${issue.rule}: ${decision}`, answer.revision, changed);
    changed();
  };
  const dismiss = async () => {
    const reason = await askReason("Dismiss the issue", { required: true, text: "The next audit shows it as dismissed, with your reason." });
    if (reason) act("dismissed", { reason });
  };
  const mend = (remedy) => el("button", { type: "button", title: remedy.title, onclick: () => act("mended", { corrections: [remedy] }) }, `✎ ${remedy.title}`);
  if (issue.decision !== "open") return [el("button", { type: "button", onclick: () => act("open") }, "Open again")];
  return [
    el("button", { type: "button", onclick: () => act("accepted") }, "✓ Accept"),
    el("button", { type: "button", onclick: dismiss }, "– Dismiss …"),
    ...issue.corrections.map(mend),
  ];
}

/** Return the card; `changed` runs after each decision. `linked` adds links and thumbnails. */
export function issueCard(issue, { readOnly, changed, linked = false }) {
  const image = (row, name) => linked && row !== null && el("a", { href: `/images/${row}`, class: "issue-image" }, el("img", { src: `/api/v1/images/${row}/thumbnail`, alt: "", loading: "lazy", width: 160, height: 160 }), el("span", {}, name));
  const decided = issue.decision !== "open" && el("p", { class: "soft" }, `${DECIDED[issue.decision]} by ${issue.author}, ${when(issue.time)}${issue.reason ? `: ${issue.reason}` : ""}`);
  return el(
    "article", { class: `issue ${issue.decision}`, "data-issue": issue.number },
    el("div", {}, severity(issue.severity), " ", el("b", {}, issue.rule), issue.decision === "open" && el("span", { class: "soft small" }, ` ${DECIDED.open}`)),
    linked && el("div", { class: "issue-images" }, image(issue.row, issue.image_id), image(issue.other_row, issue.other_image_id)),
    el("p", {}, issue.message),
    issue.remedy && el("p", { class: "soft" }, issue.remedy),
    !linked && issue.other_row !== null && issue.other_row !== undefined && el("p", {}, el("a", { href: `/images/${issue.other_row}` }, "The other image")),
    decided,
    !readOnly && el("div", { class: "choices" }, buttons(issue, changed)),
  );
}
