// The table of rollouts with its filters, and the selection. All text of the corpus is set as text, never as HTML.
import { ask, byId, cell, element, fill, number, say, send } from "./parts.js";
import { openRollout } from "./rollout.js";

const COLUMNS = [  // name, title, how a cell is written
  ["source", "source", "text"], ["rank", "rank", "count"], ["kept", "selection", "badge"],
  ["bis", "BIS", "number"], ["mixture", "mixture", "number"], ["positive_fraction", "p", "number"],
  ["reliability", "R", "number"], ["num_positive", "positive", "count"], ["num_steps", "steps", "count"],
  ["rollout_id", "id", "text"], ["question", "question", "long"],
];
const UNSORTED = new Set(["kept", "question"]);
const CHOSEN = ["strategy", "ties", "all_negative"];  // lists of the selection; the first is of strategies
const RANGES = [["rank", "rank"], ["bis", "BIS"], ["mixture", "mixture"], ["reliability", "R"], ["num_steps", "steps"]];

const view = { about: null, state: null, by: "rank", descending: false, first: 0, total: 0, rows: [], asked: 0 };

function filters() {
  const entries = [...new FormData(byId("filters"))].filter(([, value]) => value !== "");
  return Object.fromEntries(entries);
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
        load();
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
  box.addEventListener("change", () => mark(row.rollout_id, box.checked));
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

const rowAt = (place) => byId("rollouts").querySelector(`tr[data-place="${place}"]`);

async function load(focus = null) {
  const asked = ++view.asked;
  say("Loading …");
  const { by, descending, first } = view;
  const query = new URLSearchParams({ ...filters(), by, descending, first, rows: view.about.page });
  const found = await ask(`rollouts?${query}`);
  if (asked !== view.asked) return;  // a later request has overtaken this one
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
  byId("ids").href = `ids.txt?${new URLSearchParams(filters())}`;
  const reading = questions.done < questions.total || !questions.total;
  say(reading ? `Questions are being read for the search: ${number(questions.done)} of ${number(questions.total)}.`
    : questions.note ? `Not searched: ${questions.note}` : "");
  document.documentElement.dataset.loaded = asked;
}

function showMoved() {
  const sum = (name) => view.state.moved.reduce((all, each) => all + each[name], 0);
  const [kept, was, both] = [sum("kept"), sum("was_kept"), sum("both")];
  const { parameters } = view.state;
  byId("moved").textContent = `${number(kept)} of ${number(sum("rollouts"))} kept by ${parameters.strategy}` +
    `${parameters.strategy === "bis" ? `, α ${parameters.alpha}` : ""}; ${number(kept - both)} entered and ` +
    `${number(was - both)} left since the start; ${number(view.state.marked)} marked` +
    `${view.about.exclude ? ` in ${view.about.exclude}` : ""}.`;
  const head = element("tr");
  for (const title of ["source", "rollouts", "kept", "at first", "entered", "left"]) {
    head.append(element("th", title, title === "source" ? "text" : ""));
  }
  byId("sources").tHead.replaceChildren(head);
  fill(byId("sources").tBodies[0], view.state.moved.map((each) => {
    const line = element("tr");
    line.append(cell(each.source, "text"));
    const values = [each.rollouts, each.kept, each.was_kept, each.kept - each.both, each.was_kept - each.both];
    line.append(...values.map((value) => cell(value, "count")));
    return line;
  }));
}

async function select(form) {
  say("Selecting …");
  const asked = { ...view.about.asked };  // which may have options that the form has not
  delete asked.alpha;
  for (const name of CHOSEN) {
    delete asked[name];
    if (form[name].value) asked[name] = form[name].value;
  }
  const alpha = form.alpha.value.trim();
  if (alpha) asked.alpha = alpha === "auto" ? alpha : Number(alpha);
  if (alpha && alpha !== "auto" && !Number.isFinite(asked.alpha)) throw new Error(`α is a number or auto: ${alpha}`);
  const fraction = `${form.fraction.value}%`;
  view.state = await send("select", { fraction, asked, without_marked: form.without_marked.checked });
  view.first = 0;
  showMoved();
  await load();
}

function setUp() {
  const { about } = view, form = byId("selection");
  byId("about").textContent = `${about.index}, version ${about.version}, ${number(about.rollouts)} rollouts`;
  for (const name of ["strategies", "ties", "all_negative"]) {
    const list = form[name === "strategies" ? "strategy" : name];
    list.append(new Option("index", ""), ...about[name].map((each) => new Option(each)));
  }
  const lists = { source: Object.keys(about.sources), selected: about.selected, kind: about.kinds };
  for (const [name, values] of Object.entries(lists)) {
    byId("filters")[name].append(...values.map((each) => new Option(each)));
  }
  for (const [name, title] of RANGES) {
    const label = element("label", title);
    for (const [end, words] of [["min", "from"], ["max", "to"]]) {
      const input = element("input", "", "bound");
      Object.assign(input, { name: `${name}_${end}`, inputMode: "decimal", placeholder: words, ariaLabel: `${title} ${words}` });
      label.append(input);
    }
    byId("ranges").append(label);
  }
  form.fraction.addEventListener("input", () => { byId("share").textContent = `${form.fraction.value} %`; });
  asAtFirst(form);
}

function asAtFirst(form) {
  form.reset();
  form.fraction.value = 100 * view.about.fraction;
  form.fraction.dispatchEvent(new Event("input"));
  for (const name of [...CHOSEN, "alpha"]) form[name].value = view.about.asked[name] ?? "";
}

async function rejects(more) {
  const list = byId("rejects").tBodies[0];
  const query = new URLSearchParams({ reason: byId("reason").value, first: more ? list.rows.length : 0 });
  const found = await ask(`rejects?${query}`);
  const lines = found.map((each) => {
    const line = element("tr");
    line.append(cell(each.source, "text"), cell(each.reason, "text"), cell(`${each.shard}@${each.offset}`, "long"),
      cell(each.begins ?? "(not readable here)", "long"));
    return line;
  });
  if (more) list.append(...lines); else fill(list, lines);
  byId("more-rejects").disabled = found.length < view.about.page;
}

function setUpRejects() {
  const { rejected } = view.about;
  if (!Object.keys(rejected).length) return;
  byId("rejected").hidden = false;
  byId("reason").append(new Option("all", ""), ...Object.entries(rejected).map(
    ([reason, count]) => new Option(`${reason} (${number(count)})`, reason)));
  const head = element("tr");
  for (const title of ["source", "reason", "place", "begins"]) head.append(element("th", title, "text"));
  byId("rejects").tHead.replaceChildren(head);
  byId("reason").addEventListener("change", () => rejects(false).catch(problem));
  byId("more-rejects").addEventListener("click", () => rejects(true).catch(problem));
  rejects(false).catch(problem);
}

const problem = (error) => say(error.message, true);
const open = (row) => openRollout(row, view.state.number, mark).catch(problem);

function turn(pages) {
  const first = view.first + pages * view.about.page;
  if (first < 0 || first >= view.total) return;
  view.first = first;
  load(0).catch(problem);
}

async function markAll(marked) {
  const answer = await send("mark", { filters: filters(), marked });
  view.state.marked = answer.marked;
  showMoved();
  await load();
}

function onKey(event) {
  const typing = event.target.closest?.("input:not([type=checkbox]), select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const line = event.target.closest?.("tr[data-place]"), place = line ? Number(line.dataset.place) : -1;
  const act = {
    j: () => (rowAt(place + 1) ?? line)?.focus(), k: () => (rowAt(Math.max(place - 1, 0)) ?? line)?.focus(),
    ArrowDown: line && (() => (rowAt(place + 1) ?? line).focus()), ArrowUp: line && (() => rowAt(Math.max(place - 1, 0)).focus()),
    Enter: line && (() => open(view.rows[place])),
    x: line && (() => mark(view.rows[place].rollout_id, !view.rows[place].marked).catch(problem)),
    n: () => turn(1), p: () => turn(-1), "/": () => byId("filters").text.focus(),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function listen() {
  const submit = (form, work) => form.addEventListener("submit", (event) => {
    event.preventDefault();
    work(form).catch(problem);
  });
  const filter = async () => { view.first = 0; await load(); };
  submit(byId("selection"), select);
  submit(byId("filters"), filter);
  byId("filters").addEventListener("change", (event) => { if (event.target.tagName === "SELECT") filter().catch(problem); });
  byId("clear").addEventListener("click", () => { byId("filters").reset(); filter().catch(problem); });
  byId("at-first").addEventListener("click", () => {
    const form = byId("selection");
    asAtFirst(form);
    select(form).catch(problem);
  });
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("mark-all").addEventListener("click", () => markAll(true).catch(problem));
  byId("unmark-all").addEventListener("click", () => markAll(false).catch(problem));
  document.addEventListener("keydown", onKey);
}

async function start() {
  view.about = await ask("about");
  view.state = view.about;
  setUp();
  listen();
  showMoved();
  setUpRejects();
  await load();
}

start().catch(problem);
