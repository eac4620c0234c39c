// Sets the page up, and listens to the reader. All text of the corpus is set as text, never as HTML.
import { ask, byId, element, number, option, problem } from "./parts.js";
import { setUpRejects } from "./rejects.js";
import { asAtFirst, select, setUpSelection, showMoved } from "./selection.js";
import { view } from "./state.js";
import { applyFilters, load, mark, markAll, open, rowAt, turn } from "./table.js";

const RANGES = [["rank", "rank"], ["bis", "BIS"], ["mixture", "mixture"], ["reliability", "R"], ["num_steps", "steps"]];

function setUp() {
  const { about } = view;
  byId("about").textContent = `${about.index}, version ${about.version}, ${number(about.rollouts)} rollouts`;
  const lists = { source: Object.keys(about.sources), selected: about.selected, kind: about.kinds };
  for (const [name, values] of Object.entries(lists)) {
    byId("filters").elements[name].append(...values.map(option));
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
  setUpSelection(byId("selection"));
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
    n: () => turn(1), p: () => turn(-1), "/": () => byId("filters").elements.text.focus(),
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
  const selected = async (form) => { await select(form); await load(); };
  const filter = async () => {
    const before = view.filters;
    applyFilters();
    view.first = 0;
    await load().catch((error) => { view.filters = before; throw error; });
  };
  submit(byId("selection"), selected);
  submit(byId("filters"), filter);
  byId("selection").elements.fraction.addEventListener("change", () => selected(byId("selection")).catch(problem));
  byId("filters").addEventListener("change", (event) => { if (event.target.tagName === "SELECT") filter().catch(problem); });
  byId("clear").addEventListener("click", () => { byId("filters").reset(); filter().catch(problem); });
  byId("at-first").addEventListener("click", () => {
    const form = byId("selection");
    asAtFirst(form);
    selected(form).catch(problem);
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
  applyFilters();  // a browser may have kept what the form said before the page was loaded again
  await load();
}

start().catch(problem);
