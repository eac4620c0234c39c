// The records that are not used, by reason.
import { ask, byId, cell, element, fill, number, problem } from "./parts.js";
import { view } from "./state.js";

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

export function setUpRejects() {
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
