// Notices at the foot of the page, and sheets that ask for something before a change is made.

import { $, el } from "./dom.js";

const SHOWN_MS = 6000;

/** Show a sentence for some seconds; an error stays until it is closed. `action` is {name, run}. */
export function notice(text, { error = false, action = null } = {}) {
  const close = () => node.remove();
  const node = el(
    "div",
    { class: error ? "notice error" : "notice", role: error ? "alert" : null },
    el("span", {}, error ? `Not done: ${text}` : text),
    action &&
      el(
        "button",
        {
          type: "button",
          onclick: () => {
            close();
            action.run();
          },
        },
        action.name,
      ),
    el(
      "button",
      { type: "button", class: "quiet", "aria-label": "Close this notice", onclick: close },
      "✕",
    ),
  );
  $("#notices").append(node);
  if (!error) setTimeout(close, SHOWN_MS);
}

/** Run an asynchronous action of a button or key; what goes wrong is shown as a sentence. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    notice(error.message, { error: true });
    return undefined;
  }
}

/** Open a dialog of the page; resolves with its form's FormData, or null when it was cancelled. */
export function openSheet(dialog) {
  const form = $("form", dialog);
  return new Promise((resolve) => {
    const done = (result) => {
      dialog.removeEventListener("close", cancel);
      form.removeEventListener("submit", submit);
      if (dialog.open) dialog.close();
      resolve(result);
    };
    const cancel = () => done(null);
    const submit = (event) => {
      event.preventDefault();
      done(new FormData(form));
    };
    dialog.addEventListener("close", cancel);
    form.addEventListener("submit", submit);
    for (const button of dialog.querySelectorAll("[data-close]"))
      button.onclick = () => dialog.close();
    dialog.showModal();
  });
}

/** Put a sheet together from fields and open it. Resolves as `openSheet` does. */
export async function ask(
  title,
  content,
  { confirm = "Keep", cancel = "Cancel", wide = false } = {},
) {
  const dialog = el(
    "dialog",
    { "aria-label": title, class: wide ? "wide" : null },
    el(
      "form",
      {},
      el("h2", {}, title),
      content,
      el(
        "p",
        { class: "actions" },
        cancel && el("button", { type: "button", "data-close": true }, cancel),
        el("button", { class: "primary" }, confirm),
      ),
    ),
  );
  document.body.append(dialog);
  const result = await openSheet(dialog);
  dialog.remove();
  return result;
}

/** Ask for the reason of a change; resolves with the text, or null when it was cancelled. */
export async function askReason(title, { required = false, text = "" } = {}) {
  const field = el(
    "label",
    { class: "field" },
    el("span", {}, required ? "Reason" : "Reason (may stay empty)"),
    el("input", { name: "reason", maxlength: 500, required, autocomplete: "off" }),
  );
  const answer = await ask(title, el("div", {}, text && el("p", {}, text), field));
  return answer && answer.get("reason").trim();
}
