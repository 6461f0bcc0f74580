// The page of the audit's issues: a card for each, and keys to work through them.

import { $, $$, isTyping, pageData } from "./dom.js";
import { issueCard } from "./issue_card.js";

const readOnly = document.body.hasAttribute("data-read-only");

function reload(number) {
  const done = () => $(`[data-issue="${number}"]`)?.focus();
  window.htmx
    .ajax("GET", location.pathname + location.search, {
      target: "#issues",
      select: "#issues",
      swap: "outerHTML",
    })
    .then(done);
}

function fill() {
  for (const issue of pageData("issue-data") ?? []) {
    const card = issueCard(issue, { readOnly, linked: true, changed: () => reload(issue.number) });
    card.tabIndex = -1;
    $(`[data-card="${issue.number}"]`)?.replaceWith(card);
  }
}

function move(by) {
  const cards = $$(".issue");
  const now = cards.indexOf(document.activeElement.closest?.(".issue"));
  cards[Math.min(Math.max(now + by, 0), cards.length - 1)]?.focus();
}

function press(sign) {
  const card = document.activeElement.closest?.(".issue");
  const button =
    card && $$(".choices button", card).find((one) => one.textContent.startsWith(sign));
  button?.click();
}

const KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  a: () => press("✓"),
  d: () => press("–"),
  n: () => $(".pages [rel=next]")?.click(),
  p: () => $(".pages [rel=prev]")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  KEYS[event.key]();
  event.preventDefault();
});
document.addEventListener("htmx:afterSettle", fill);
fill();
