// The panel beside an image: what is known of it, and where it is corrected.

import { change, confirmChange } from "./changes.js";
import { CORRECTIONS, STATES } from "./choices.js";
import { ask, attempt } from "./dialogs.js";
import { decimal, el } from "./dom.js";
import { issueCard } from "./issue_card.js";
import { scoreRow } from "./score_bar.js";

const closed = new Set(["header", "log"]); // sections that the reader has closed, or has not opened

/** Return a section that remembers whether it is open. */
export function section(key, title, ...content) {
  const node = el(
    "details",
    { open: !closed.has(key), "data-section": key },
    el("summary", {}, title),
    el("div", {}, ...content),
  );
  node.addEventListener("toggle", () => (node.open ? closed.delete(key) : closed.add(key)));
  return node;
}

const quoted = (text) => text && `“${text}”`;

function sourcesOf(label) {
  const lines = label.sources.map(({ state, source, term, rule, words }) => {
    const place = [source, quoted(term), rule, quoted(words)];
    return `${state}: ${place.filter(Boolean).join(" · ")}`;
  });
  if (label.author) lines.unshift(`set by ${label.author}, revision ${label.revision}`);
  return lines.length ? lines : ["no source mentions it"];
}

function labelRow(facts, label, { readOnly, reason, changed }) {
  const select = el(
    "select",
    { "aria-label": `State of ${label.name}`, disabled: readOnly },
    STATES.map((state) => el("option", { selected: state === label.state }, state)),
  );
  select.addEventListener("change", async () => {
    const state = select.value;
    const body = {
      concept: label.concept,
      state,
      reason: reason.value.trim() || null,
      expected: label.revision,
    };
    const answer = await attempt(() =>
      change(`/api/v1/images/${facts.row}/labels`, body, `${label.name}: ${state}`),
    );
    if (answer) confirmChange(`${label.name}: ${state}`, answer.revision, changed);
    changed();
  });
  return el(
    "div",
    { class: label.author ? "label changed" : "label" },
    el("span", { class: "name" }, label.name),
    select,
    el(
      "div",
      { class: "sources" },
      sourcesOf(label).map((line) => el("div", {}, line)),
    ),
  );
}

function labels(facts, options) {
  const reason = el("input", {
    name: "reason",
    maxlength: 500,
    autocomplete: "off",
    placeholder: "reason, kept with the next change",
  });
  const mentioned = facts.labels.filter(
    (label) => label.state !== "not mentioned" || label.sources.length || label.author,
  );
  const others = facts.labels.filter((label) => !mentioned.includes(label));
  const row = (label) => labelRow(facts, label, { ...options, reason });
  return section(
    "labels",
    "Labels",
    mentioned.map(row),
    others.length > 0 &&
      el(
        "details",
        { open: mentioned.length === 0 },
        el("summary", { class: "soft" }, `Not mentioned (${others.length})`),
        others.map(row),
      ),
    !options.readOnly &&
      el(
        "label",
        { class: "field" },
        el("span", { class: "hidden" }, "Reason for the next change"),
        reason,
      ),
  );
}

const size = (facts) =>
  `${facts.original_height ?? facts.height} × ${facts.original_width ?? facts.width} pixels`;

function aboutImage(facts) {
  const spacing = facts.row_spacing_mm
    ? `${decimal(facts.row_spacing_mm, 3)} × ${decimal(facts.column_spacing_mm, 3)} mm`
    : "not stated; distances are in pixels";
  const known = [
    ["Patient", facts.patient],
    ["File", facts.path],
    ["Size", size(facts)],
    ["Pixel spacing", spacing],
    ["View", facts.view],
    ["Sex", facts.sex],
    ["Age", facts.age_years === null ? null : `${facts.age_years} years`],
    ["Part", facts.part],
    ["Source", facts.source],
    ["Study", facts.study],
    ["Follow-up", facts.follow_up],
  ];
  const rows = known
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]);
  const flags =
    facts.quality_flags.length > 0 &&
    el(
      "ul",
      { class: "flags" },
      facts.quality_flags.map((flag) => el("li", {}, flag)),
    );
  return section("about", "Image", el("dl", { class: "facts" }, rows), flags);
}

async function correct(facts, [action, title, value], { changed }) {
  const needsPatient = action === "set patient";
  const field = el(
    "label",
    { class: "field", hidden: !needsPatient },
    el("span", {}, "Patient"),
    el("input", { name: "value", required: needsPatient, maxlength: 200 }),
  );
  const reason = el(
    "label",
    { class: "field" },
    el("span", {}, "Reason (may stay empty)"),
    el("input", { name: "reason", maxlength: 500, autocomplete: "off" }),
  );
  const sheet = el(
    "div",
    {},
    el("p", {}, "The file stays as it is; the next run reads the image so."),
    field,
    reason,
  );
  const answer = await ask(title.replace(" …", ""), sheet, { confirm: "Correct" });
  if (!answer) return;
  const body = {
    action,
    value: needsPatient ? answer.get("value").trim() : value,
    other: null,
    reason: answer.get("reason").trim() || null,
    expected: facts.image_revision,
  };
  const done = await attempt(() => change(`/api/v1/images/${facts.row}/corrections`, body, title));
  if (done) confirmChange(title, done.revision, changed);
  changed();
}

async function takeBack(facts, { action, value, other }, { changed }) {
  const body = { action, value, other, remove: true, reason: null, expected: facts.image_revision };
  const path = `/api/v1/images/${facts.row}/corrections`;
  const done = await attempt(() => change(path, body, `not: ${action}`));
  if (done) confirmChange(`${action}: taken back`, done.revision, changed);
  changed();
}

function corrections(facts, { readOnly, ...options }) {
  const made = facts.corrections.map((one) => {
    const what = [one.action, one.value].filter(Boolean).join(" ");
    const who = `by ${one.author ?? "the corrections file"}`;
    const words = [what, who, one.revision && `revision ${one.revision}`]
      .filter(Boolean)
      .join(", ");
    const undo = () => takeBack(facts, one, options);
    const isOwn = !readOnly && CORRECTIONS.some(([action]) => action === one.action);
    return el(
      "li",
      {},
      `${words} `,
      isOwn && el("button", { type: "button", class: "quiet", onclick: undo }, "Take back"),
    );
  });
  const select = el(
    "select",
    { "aria-label": "Correct this image" },
    el("option", { value: "" }, "Correct this image …"),
    CORRECTIONS.map(([, title], at) => el("option", { value: at }, title)),
  );
  select.addEventListener("change", () => {
    const chosen = CORRECTIONS[select.value];
    select.value = "";
    if (chosen) correct(facts, chosen, options);
  });
  return section(
    "corrections",
    ["Corrections ", el("span", { class: "count" }, String(made.length || ""))],
    made.length > 0 && el("ul", { class: "log" }, made),
    made.length > 0 && el("p", { class: "soft small" }, "They hold from the next run on."),
    el("p", {}, el("a", { href: `/revisions?row=${facts.row}` }, "History of this image")),
    !readOnly && select,
  );
}

/** Return the sections about an image, apart from layers, masks and other images. */
export function aboutSections(facts, options) {
  const issues = facts.issues.map((issue) => issueCard(issue, options));
  return [
    facts.issues.length > 0 &&
      section("issues", ["Issues ", el("span", { class: "count" }, String(issues.length))], issues),
    facts.labels.length > 0 && labels(facts, options),
    facts.calls.length > 0 &&
      section(
        "calls",
        "Scores and calls",
        facts.calls.map((call) => scoreRow(call)),
      ),
    corrections(facts, options),
    ...fileSections(facts),
  ].filter(Boolean);
}

/** What the file itself says; it gives no reading away, so blind readers see it too. */
export function fileSections(facts) {
  const header = facts.header.map(({ name, value }) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(value))),
  );
  return [
    aboutImage(facts),
    facts.processing_log.length > 0 &&
      section(
        "log",
        "How it was read",
        el(
          "ol",
          { class: "log" },
          facts.processing_log.map((line) => el("li", {}, line)),
        ),
      ),
    header.length > 0 &&
      section(
        "header",
        ["Header ", el("span", { class: "count" }, String(header.length))],
        el("div", { class: "header-table", tabindex: 0 }, el("table", {}, el("tbody", {}, header))),
      ),
  ].filter(Boolean);
}
