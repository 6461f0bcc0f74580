// What every page has: help sheet, name of the author, progress while a set is prepared.

import { getJson, send } from "./api.js";
import { ask, attempt, notice, openSheet } from "./dialogs.js";
import { $, el, isTyping, pageData } from "./dom.js";

const POLL_MS = 1000;

async function enterAuthor() {
  const answer = await openSheet($("#author-sheet"));
  if (!answer) return;
  const name = answer.get("name").trim();
  const kept = await attempt(() => send("POST", "/api/v1/author", { name }));
  if (kept !== undefined) location.reload();
}

/** Show an address that lets one more browser in, once. */
async function invite() {
  const invitation = await attempt(() => send("POST", "/api/v1/invitations", {}));
  if (!invitation) return;
  $("#author-sheet").close();
  const field = el("input", { value: invitation.address, readonly: true, "aria-label": "Address" });
  field.addEventListener("focus", () => field.select());
  const text = "This address opens the desk in one more browser. It works once.";
  await ask(
    "Another reader",
    el("div", {}, el("p", {}, text), el("div", { class: "field" }, field)),
    {
      confirm: "Close",
      cancel: null,
    },
  );
}

function openHelp() {
  const sheet = $("#help-sheet");
  if (!sheet.open) sheet.showModal();
}

async function followPreparation() {
  const study = await getJson("/api/v1/study").catch(() => null);
  if (study?.ready) return location.reload();
  if (study?.steps.some((step) => step.state === "failed"))
    $("#preparing-title").textContent = "The images could not be prepared";
  for (const step of study?.steps ?? []) {
    const node = document.querySelector(`[data-step="${CSS.escape(step.name)}"]`);
    if (!node) continue;
    node.dataset.state = step.state;
    $(".step-state", node).textContent = step.state;
    $(".step-message", node).textContent = step.message ?? "";
    const bar = $("progress", node);
    bar.max = step.total || 1;
    if (step.state === "running" && !step.total) bar.removeAttribute("value");
    else bar.value = step.state === "done" ? bar.max : step.done;
  }
  setTimeout(followPreparation, POLL_MS);
}

$("#help").addEventListener("click", openHelp);
$("#invite").addEventListener("click", invite);
$("#author")?.addEventListener("click", enterAuthor);
document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !isTyping(event)) openHelp();
});
// htmx answers a failed swap with silence; say what happened instead.
document.addEventListener("htmx:sendError", () =>
  notice("the server does not answer; is `hilum serve` still running?", { error: true }),
);
document.addEventListener("htmx:responseError", (event) =>
  notice(`the server answered ${event.detail.xhr.status}`, { error: true }),
);
// Filters stand beside the form that they belong to, where its events do not reach it.
document.addEventListener("change", (event) => {
  const { form } = event.target;
  if (form?.hasAttribute("hx-get") && !form.contains(event.target)) form.requestSubmit();
});
// An address is easier to read, and to send to a colleague, without the fields that are empty.
document.addEventListener("htmx:configRequest", (event) => {
  const { formData } = event.detail;
  for (const name of [...new Set(formData?.keys() ?? [])]) {
    if (formData.getAll(name).every((value) => value === "")) formData.delete(name);
  }
});
if ($("#preparing")) followPreparation();
else if (
  !pageData("study-data").author &&
  !pageData("study-data").read_only &&
  !sessionStorage.getItem("author-requested")
) {
  sessionStorage.setItem("author-requested", "yes");
  enterAuthor();
}
