// The worklist's selection, keyboard and changes to many images at once.
// Filters, sorting and pages are links and a form, which htmx turns into swaps of #worklist.

import { send } from "./api.js";
import { attempt, notice, openSheet } from "./dialogs.js";
import { $, $$, isTyping } from "./dom.js";

const selected = new Set(); // rows of the manifest; it outlives the swaps of the list
let everything = false; // the selection is all images of the filter, also those of other pages
let anchor = null; // where an extended selection begins

const list = () => $("#worklist");
const items = () => $$("#items .item");
const rowOf = (item) => Number(item.dataset.row);
const total = () => Number(list().dataset.total);

function show() {
  for (const item of items()) {
    const on = everything || selected.has(rowOf(item));
    item.classList.toggle("selected", on);
    $(".pick input", item).checked = on;
  }
  const count = everything ? total() : selected.size;
  $("#bulk").hidden = count === 0;
  $("#selected").textContent = `${count.toLocaleString()} image${count === 1 ? "" : "s"} selected`;
  const all = $("#select-all");
  all.hidden = everything || count >= total();
  all.textContent = `Select all ${total().toLocaleString()}`;
}

function clear() {
  selected.clear();
  everything = false;
  show();
}

function choose(row, on) {
  everything = false;
  if (on) selected.add(row);
  else selected.delete(row);
}

function extendTo(item) {
  const all = items();
  const start = all.findIndex((one) => rowOf(one) === anchor);
  const end = all.indexOf(item);
  const [first, last] = start < 0 ? [end, end] : [Math.min(start, end), Math.max(start, end)];
  for (const one of all.slice(first, last + 1)) choose(rowOf(one), true);
  show();
}

function toggle(item) {
  anchor = rowOf(item);
  choose(anchor, !selected.has(anchor));
  show();
}

function onClick(event) {
  const item = event.target.closest("#items .item");
  if (!item) return;
  const box = event.target.closest(".pick");
  if (event.shiftKey) {
    event.preventDefault();
    extendTo(item);
    // The browser sets the box itself after this event; say it again when it has.
    setTimeout(show);
  } else if ((event.ctrlKey || event.metaKey) && !box) {
    event.preventDefault();
    toggle(item);
  } else if (event.target.matches(".pick input")) {
    toggle(item);
  }
}

function columns(all) {
  const top = all[0].offsetTop;
  const below = all.findIndex((item) => item.offsetTop > top);
  return below < 0 ? all.length : below;
}

function step(key, extend) {
  const all = items();
  if (!all.length) return;
  const now = all.indexOf(document.activeElement.closest?.("#items .item"));
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(all), ArrowDown: columns(all) };
  const next = now < 0 ? 0 : now + moves[key];
  if (!all[next]) return;
  if (extend && anchor === null) anchor = rowOf(all[Math.max(now, 0)]);
  $("a", all[next]).focus();
  all[next].scrollIntoView({ block: "nearest" });
  if (extend) extendTo(all[next]);
}

function follow(selector) {
  $(selector)?.click();
}

function onKey(event) {
  if (isTyping(event)) return;
  const focused = document.activeElement.closest?.("#items .item");
  const inFilters = document.activeElement.closest?.("#filters, #filter-form, #bulk");
  const letter = event.ctrlKey || event.metaKey || event.altKey ? "" : event.key.toLowerCase();
  if (event.key.startsWith("Arrow") && !inFilters) step(event.key, event.shiftKey);
  else if (event.key === " " && focused) toggle(focused);
  else if ((event.ctrlKey || event.metaKey) && event.key === "a") selectPage();
  else if (event.key === "Escape") clear();
  else if (letter === "/") $("#q").focus();
  else if (letter === "n") follow(".pages [rel=next]");
  else if (letter === "p") follow(".pages [rel=prev]");
  else if (letter === "v") follow("#filter-form [name=view]:not(:checked)");
  else if (letter === "d") follow("#next-to-draw");
  else return;
  event.preventDefault();
}

function selectPage() {
  for (const item of items()) selected.add(rowOf(item));
  show();
}

/** Read an action of the list such as "correction:rotate:90"; see POST /api/v1/bulk. */
function changeOf(action, answer) {
  const [kind, what, value] = action.split(":");
  const reason = answer.get("reason").trim() || null;
  if (kind === "label")
    return { kind, concept: answer.get("concept"), state: answer.get("state"), reason };
  if (kind === "issue") return { kind, decision: what, reason };
  return {
    kind,
    action: what,
    value: what === "set patient" ? answer.get("value").trim() : (value ?? null),
    reason,
  };
}

async function changeSelected(action, name) {
  const sheet = $("#bulk-sheet");
  const count = everything ? total() : selected.size;
  $("#bulk-title").textContent =
    `${name.replace("…", "").trim()}: ${count.toLocaleString()} image${count === 1 ? "" : "s"}`;
  $("#bulk-label").hidden = action !== "label";
  $("#bulk-value").hidden = action !== "correction:set patient";
  $("[name=value]", sheet).required = action === "correction:set patient";
  $("[name=reason]", sheet).required = action === "issue:dismissed";
  const answer = await openSheet(sheet);
  if (!answer) return;
  const which = everything
    ? { rows: null, filter: list().dataset.query }
    : { rows: [...selected], filter: null };
  const result = await attempt(() =>
    send("POST", "/api/v1/bulk", { ...which, change: changeOf(action, answer) }),
  );
  if (!result) return;
  const skipped = result.skipped.length
    ? `; ${result.skipped.length} left as they were: ${result.skipped[0].why}`
    : "";
  notice(`${result.changed.toLocaleString()} images changed${skipped}`, {
    action: { name: "Show", run: () => location.assign("/revisions") },
  });
  clear();
  window.htmx.ajax("GET", location.pathname + location.search, {
    target: "#worklist",
    select: "#worklist",
    swap: "outerHTML",
  });
}

document.addEventListener("click", onClick);
document.addEventListener("keydown", onKey);
document.addEventListener("htmx:afterSettle", show);
$("#select-all").addEventListener("click", () => {
  everything = true;
  show();
});
$("#clear").addEventListener("click", clear);
$("#bulk-action")?.addEventListener("change", async (event) => {
  const option = event.target.selectedOptions[0];
  event.target.value = "";
  if (option.value) await changeSelected(option.value, option.textContent);
});
$("#show-filters").addEventListener("click", (event) => {
  const shown = $("#filter-form").classList.toggle("filters-shown");
  event.target.setAttribute("aria-expanded", shown);
});
show();
