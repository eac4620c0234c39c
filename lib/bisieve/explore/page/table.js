// The table of rollouts: its filters, order, pages and marks.
import { ask, byId, cell, element, fill, number, problem, say, send } from "./parts.js";
import { openRollout } from "./rollout.js";
import { showMoved } from "./selection.js";
import { view } from "./state.js";

const COLUMNS = [  // name, title, how a cell is written
  ["source", "source", "text"], ["rank", "rank", "count"], ["kept", "selection", "badge"],
  ["bis", "BIS", "number"], ["mixture", "mixture", "number"], ["positive_fraction", "p", "number"],
  ["reliability", "R", "number"], ["num_positive", "positive", "count"], ["num_steps", "steps", "count"],
  ["rollout_id", "id", "id"], ["question", "question", "long"],
];
const REFRESH = 3000;  // milliseconds, while questions are being read
const UNSORTED = new Set(["kept", "question"]);

// Take over what the form says now; what is typed afterwards has no effect yet.
export function applyFilters() {
  const entries = [...new FormData(byId("filters"))].filter(([, value]) => value !== "");
  view.filters = Object.fromEntries(entries);
}

function heads() {
  const row = element("tr");
  row.append(element("th", "leave out", "text"));
  for (const [name, title, form] of COLUMNS) {
    const head = element("th", UNSORTED.has(name) ? title : "", form === "number" || form === "count" ? "" : "text");
    head.scope = "col";
    if (!UNSORTED.has(name)) {
      const button = element("button", title);
      button.addEventListener("click", () => {
        view.descending = view.by === name ? !view.descending : form === "number";
        Object.assign(view, { by: name, first: 0 });
        load().catch(problem);
      });
      head.append(button);
      if (view.by === name) head.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
    }
    row.append(head);
  }
  byId("rollouts").tHead.replaceChildren(row);
}

function badge(row) {
  const text = row.kept ? (row.was_kept ? "kept" : "entered") : row.was_kept ? "left" : "dropped";
  const classes = ["badge", row.kept ? "kept" : "", row.kept !== row.was_kept ? "moved" : ""];
  return element("span", text, classes.join(" ").trim());
}

function rowOf(row, place) {
  const line = element("tr", "", row.marked ? "marked" : "");
  line.tabIndex = 0;
  line.dataset.place = place;
  const box = element("input");
  Object.assign(box, { type: "checkbox", checked: row.marked, tabIndex: -1, ariaLabel: `leave out ${row.rollout_id}` });
  box.addEventListener("click", (event) => event.stopPropagation());
  box.addEventListener("change", () => mark(row.rollout_id, box.checked).catch((error) => { problem(error); showRows(); }));
  const first = element("td", "", "text");
  first.append(box);
  line.append(first);
  for (const [name, , form] of COLUMNS) {
    const made = cell(form === "badge" ? "" : row[name], form);
    if (form === "badge") made.append(badge(row));
    line.append(made);
  }
  line.addEventListener("click", () => open(row));
  return line;
}

export async function mark(id, marked) {
  const answer = await send("mark", { ids: [id], marked });
  view.state.marked = answer.marked;
  for (const row of view.rows) if (row.rollout_id === id) row.marked = marked;
  showRows();
  showMoved();
}

function showRows() {
  const focused = document.activeElement?.closest?.("tr[data-place]")?.dataset.place;
  fill(byId("rollouts").tBodies[0], view.rows.map(rowOf));
  if (focused !== undefined) rowAt(focused)?.focus();
}

export const rowAt = (place) => byId("rollouts").querySelector(`tr[data-place="${place}"]`);

// Load the table. A quiet load is one that the reader did not ask for.
export async function load(focus = null, quiet = false) {
  const asked = ++view.asked;
  if (!quiet) say("Loading …");
  const { by, descending, first } = view;
  const query = new URLSearchParams({ ...view.filters, by, descending, first, rows: view.about.page });
  const found = await ask(`rollouts?${query}`);
  if (asked !== view.asked) return;  // a later request has overtaken this one
  if (first > 0 && !found.rows.length) {  // fewer pass than before: show the last page
    view.first = Math.max(0, Math.ceil(found.counts.rollouts / view.about.page) - 1) * view.about.page;
    return load(focus, quiet);
  }
  if (found.number !== view.state.number) {  // the selection was changed in another tab
    view.state = await ask("about");
    showMoved();
  }
  Object.assign(view, { rows: found.rows, total: found.counts.rollouts });
  heads();
  showRows();
  if (focus !== null) rowAt(focus)?.focus();
  const { counts, questions } = found;
  byId("counts").textContent = `${number(counts.rollouts)} rollouts pass: ${number(counts.kept)} kept, ` +
    `${number(counts.entered)} entered, ${number(counts.left)} left`;
  const last = Math.min(first + found.rows.length, view.total);
  byId("place").textContent = view.total ? `${number(first + 1)} to ${number(last)} of ${number(view.total)}` : "none";
  byId("previous").disabled = first === 0;
  byId("next").disabled = last >= view.total;
  byId("ids").href = `ids.txt?${new URLSearchParams(view.filters)}`;
  const reading = !questions.is_finished;
  const far = questions.total ? `: ${number(questions.done)} of ${number(questions.total)} so far` : "";
  say(reading ? `Questions are being read for the search${far}.`
    : questions.note ? `Not searched: ${questions.note}` : "");
  if (reading) setTimeout(() => { if (asked === view.asked) load(null, true).catch(problem); }, REFRESH);
  if (!quiet) document.documentElement.dataset.loaded = asked;
}

export const open = (row) => openRollout(row, view.state.number, mark).catch(problem);

export function turn(pages) {
  const first = view.first + pages * view.about.page;
  if (first < 0 || first >= view.total) return;
  view.first = first;
  load(0).catch(problem);
}

export async function markAll(marked) {
  const answer = await send("mark", { filters: view.filters, marked });
  view.state.marked = answer.marked;
  showMoved();
  await load();
}
