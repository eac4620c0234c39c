// The selection that is shown: its form, and what has moved since the first one.
import { byId, cell, element, fill, number, option, say, send } from "./parts.js";
import { view } from "./state.js";

const CHOSEN = ["strategy", "ties", "all_negative"];  // lists of the selection; the first is of strategies
const OWN = ["alpha", "ties", "seed", "pair_share"];  // options that have an effect with some strategies alone

export function showMoved() {
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

// Whether an option has an effect with the strategy that is chosen.
function takes(form, name) {
  const { strategies, own_strategy, own_ties } = view.about;
  const options = strategies[form.elements.strategy.value || own_strategy];
  const ties = options.includes("ties") && (form.elements.ties.value || own_ties);
  return options.includes(name) || (name === "seed" && ties === "hash");
}

function enable(form) {
  for (const name of ["alpha", "ties"]) {
    const field = form.elements[name];
    field.disabled = !takes(form, name);
    field.title = field.disabled ? "has no effect with this strategy" : "";
  }
}

export async function select(form) {
  say("Selecting …");
  const asked = { ...view.about.asked };  // which may have options that the form has not
  delete asked.alpha;
  for (const name of CHOSEN) {
    delete asked[name];
    if (form.elements[name].value) asked[name] = form.elements[name].value;
  }
  for (const name of OWN) if (!takes(form, name)) delete asked[name];
  const alpha = takes(form, "alpha") ? form.elements.alpha.value.trim() : "";
  if (alpha) asked.alpha = alpha === "auto" ? alpha : Number(alpha);
  if (alpha && alpha !== "auto" && !Number.isFinite(asked.alpha)) throw new Error(`α is a number or auto: ${alpha}`);
  const fraction = `${form.elements.fraction.value}%`;
  view.state = await send("select", { fraction, asked, without_marked: form.elements.without_marked.checked });
  view.first = 0;
  showMoved();
}

export function asAtFirst(form) {
  form.reset();
  form.elements.fraction.value = Number((100 * view.about.fraction).toPrecision(12));  // 7, not 7.000000000000001
  showShare(form);
  for (const name of [...CHOSEN, "alpha"]) form.elements[name].value = view.about.asked[name] ?? "";
  enable(form);
}

function showShare(form) {
  byId("share").textContent = `${Number(form.elements.fraction.value)} %`;
}

export function setUpSelection(form) {
  for (const name of ["strategies", "ties", "all_negative"]) {
    const list = form.elements[name === "strategies" ? "strategy" : name];
    const values = name === "strategies" ? Object.keys(view.about.strategies) : view.about[name];
    list.append(new Option("index", ""), ...values.map(option));
  }
  form.elements.strategy.addEventListener("change", () => enable(form));
  form.elements.fraction.addEventListener("input", () => {  // dragging is in tenths, but the first value may be any
    form.elements.fraction.value = form.elements.fraction.valueAsNumber.toFixed(1);
    showShare(form);
  });
  asAtFirst(form);
}
