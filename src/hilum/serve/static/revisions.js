// The history: times in the reader's own zone, and undoing.

import { send } from "./api.js";
import { askReason, attempt, notice } from "./dialogs.js";
import { $, $$, isTyping, when } from "./dom.js";

function localTimes() {
  for (const node of $$("#revisions time")) node.textContent = when(node.dateTime);
}

async function undo(number) {
  const reason = await askReason(`Undo revision ${number}`, {
    text: "What stood before it will stand again.",
  });
  if (reason === null) return;
  if (
    !(await attempt(() =>
      send("POST", `/api/v1/revisions/${number}/undo`, { reason: reason || null }),
    ))
  )
    return;
  notice(`revision ${number} is undone`);
  window.htmx.ajax("GET", location.pathname + location.search, {
    target: "#revisions",
    select: "#revisions",
    swap: "outerHTML",
  });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-undo]");
  if (button) undo(button.dataset.undo);
});
document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.ctrlKey || event.metaKey) return;
  if (event.key === "n") $(".pages [rel=next]")?.click();
  else if (event.key === "p") $(".pages [rel=prev]")?.click();
});
document.addEventListener("htmx:afterSettle", localTimes);
localTimes();
