// The figures of a run at a threshold and a prevalence that the reader moves. All values and
// intervals come from the server, which computes them as for the report.

import { getJson } from "./api.js";
import { chart, interval } from "./charts.js";
import { attempt } from "./dialogs.js";
import { $, debounce, decimal, el, pageData, percent } from "./dom.js";

const WAIT_MS = 150;
let data = pageData();
let requests = 0;

function cell(key, name, kind) {
  const { count, query } = data.cells[key];
  const content = [el("b", {}, count.toLocaleString()), name];
  return el(
    "td",
    {},
    count
      ? el(
          "a",
          {
            href: `/?${query}`,
            class: kind,
            "data-cell": key,
            "aria-label": `${count} ${name}: show the images`,
          },
          content,
        )
      : el("span", { class: kind }, content),
  );
}

function matrix() {
  const head = el(
    "tr",
    {},
    el("td"),
    el("th", { scope: "col" }, "called present"),
    el("th", { scope: "col" }, "called absent"),
  );
  const present = el(
    "tr",
    {},
    el("th", { scope: "row" }, "labelled present"),
    cell("tp", "true positive", "right"),
    cell("fn", "false negative", "wrong"),
  );
  const absent = el(
    "tr",
    {},
    el("th", { scope: "row" }, "labelled absent"),
    cell("fp", "false positive", "wrong"),
    cell("tn", "true negative", "right"),
  );
  return el("table", { class: "matrix" }, el("tbody", {}, head, present, absent));
}

function metrics() {
  const row = (one) => {
    const range = one.low === null ? "–" : `${decimal(one.low, 3)} to ${decimal(one.high, 3)}`;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, one.name),
      el("td", { class: "number" }, el("b", {}, decimal(one.value, 3))),
      el("td", { class: "number" }, range),
      el(
        "td",
        {},
        el("div", { class: "interval" }, interval(one)),
        one.note && el("span", { class: "soft small" }, one.note),
      ),
    );
  };
  const head = el(
    "thead",
    {},
    el(
      "tr",
      {},
      ["", "Value", "Interval", ""].map((name, at) =>
        el("th", { class: at === 1 || at === 2 ? "number" : null }, name),
      ),
    ),
  );
  return el("table", {}, head, el("tbody", {}, data.figures.map(row)));
}

function showCurves() {
  $("#roc").replaceChildren(
    chart({
      name: "ROC curve, with the threshold as a point",
      xName: "1 − specificity",
      yName: "Sensitivity",
      curves: [data.roc],
      point: data.point,
      diagonal: true,
    }),
  );
  const risks = data.risk_coverage.map(([, risk]) => risk);
  const top = [0.05, 0.1, 0.2, 0.5, 1].find((one) => risks.every((risk) => risk <= one)) ?? 1;
  $("#risk").replaceChildren(
    chart({
      name: "Error against coverage",
      xName: "Coverage",
      yName: "Error",
      curves: [data.risk_coverage],
      top,
    }),
  );
}

function show() {
  $("#message").hidden = !data.message;
  $("#message").textContent = data.message ?? "";
  $("#shown").hidden = Boolean(data.message);
  if (data.message) return;
  const uncalled = data.no_call
    ? ` For ${data.no_call.toLocaleString()} of them the models give no call of their own.`
    : "";
  $("#numbers").textContent =
    `${data.n.toLocaleString()} images of ${data.patients.toLocaleString()} patients, of which ` +
    `${data.n_positive.toLocaleString()} are labelled present ` +
    `(${percent(data.observed_prevalence)}).${uncalled}`;
  // A cross-validated run has a threshold for each fold, which no single value stands for.
  const known = data.threshold !== null;
  Object.assign($("#threshold"), {
    min: data.low_score,
    max: data.high_score,
    value: known ? data.threshold : (data.low_score + data.high_score) / 2,
  });
  Object.assign($("#threshold-value"), {
    value: known ? Number(data.threshold.toPrecision(6)) : "",
    placeholder: known ? "" : "each fold's own",
  });
  const prevalence = Number((100 * (data.prevalence ?? data.observed_prevalence)).toFixed(1));
  $("#prevalence").value = prevalence;
  $("#prevalence-value").value = prevalence;
  $("#matrix").replaceChildren(matrix());
  $("#metrics").replaceChildren(metrics());
  showCurves();
}

/** Read the figures anew; the address follows, so that it can be sent to a colleague. */
async function load(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(null, "", `/figures?${query}`);
  const mine = ++requests;
  const found = await attempt(() => getJson(`/api/v1/figures?${query}`));
  if (!found || mine !== requests) return; // a later threshold is on its way
  data = found;
  show();
}
const loadSoon = debounce(WAIT_MS, load);

function follow(slider, field, send) {
  slider.addEventListener("input", () => {
    field.value = Number(slider.valueAsNumber.toPrecision(4));
    loadSoon(send(slider.valueAsNumber));
  });
  field.addEventListener("change", () => {
    if (Number.isFinite(field.valueAsNumber)) load(send(field.valueAsNumber));
  });
}

function comparison(found) {
  const row = (one) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, one.name),
      ...[one.a, one.b, one.difference].map((value) =>
        el("td", { class: "number" }, decimal(value, 3)),
      ),
      el(
        "td",
        { class: "number" },
        one.low === null ? "–" : `${decimal(one.low, 3)} to ${decimal(one.high, 3)}`,
      ),
      el("td", { class: "soft small" }, one.note),
    );
  const head = ["", found.run, found.other, "Difference", "95 % interval", ""].map((name, at) =>
    el("th", { class: at > 0 && at < 5 ? "number" : null }, name),
  );
  return [
    found.message && el("p", {}, found.message),
    found.rows.length > 0 &&
      el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, found.rows.map(row))),
  ].filter(Boolean);
}

async function compare(run) {
  const node = $("#comparison");
  node.replaceChildren(el("p", { class: "soft" }, run ? "is being computed …" : ""));
  if (!run) return;
  const concept = data.concept ? `&concept=${encodeURIComponent(data.concept)}` : "";
  const found = await attempt(() =>
    getJson(`/api/v1/compare?run=${encodeURIComponent(run)}${concept}`),
  );
  node.replaceChildren(...(found ? comparison(found) : []));
}

$("#figure-form").addEventListener("change", (event) => event.currentTarget.requestSubmit());
follow($("#threshold"), $("#threshold-value"), (value) => ({ threshold: value }));
follow($("#prevalence"), $("#prevalence-value"), (value) => ({ prevalence: value / 100 }));
$("#default-threshold").addEventListener("click", () => load({ threshold: null }));
$("#own-prevalence").addEventListener("click", () => load({ prevalence: null }));
$("#other")?.addEventListener("change", (event) => compare(event.target.value));
show();
