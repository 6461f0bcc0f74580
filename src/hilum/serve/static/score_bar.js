// A score as a bar with a tick at its threshold, and in words, so that colour and length never
// stand alone.

import { decimal, el } from "./dom.js";

/** Return the row of a call: {name, score, threshold, call, reason}; `note` stands beside its
 *  name. */
export function scoreRow(call, note = "") {
  const { score, threshold } = call;
  const bar = el(
    "div",
    { class: "bar", "aria-hidden": "true" },
    el("i"),
    threshold !== null && el("b"),
  );
  // Scores of findings lie between 0 and 1; an anomaly score has no upper end.
  const whole =
    Math.max(score ?? 0, threshold ?? 0) <= 1 ? 1 : 1.15 * Math.max(score ?? 0, threshold ?? 0);
  const place = (value) => `${100 * Math.min(Math.max(value / whole, 0), 1)}%`;
  if (score !== null) bar.firstChild.style.width = place(score);
  if (threshold !== null) bar.lastChild.style.left = place(threshold);
  const words = call.call === "no call" && call.reason ? `no call: ${call.reason}` : call.call;
  return el(
    "div",
    { class: "call" },
    el("b", {}, call.name),
    ` ${decimal(score, 3)}${threshold === null ? "" : ` (threshold ${decimal(threshold)})`} `,
    el("span", { class: "soft small" }, note),
    bar,
    el("span", { class: `state ${call.call}` }, words),
    call.warning && el("p", { class: "soft small" }, call.warning),
  );
}
