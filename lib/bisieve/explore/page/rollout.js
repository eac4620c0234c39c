// One rollout in a dialog: images, question, steps coloured by K/N, why it is kept or dropped, others of the question.
import { ask, byId, cell, element, fill, number } from "./parts.js";

const FACTS = [["bis", "BIS", 4], ["positive_fraction", "p", 3], ["reliability", "R", 3]];

// The MC score of each step: as K/N where these are known and N is not 0.
const labels = (row) => row.scores.map((score, place) =>
  row.mc_total?.[place] ? `${row.mc_correct[place]}/${row.mc_total[place]}` : String(Number(score.toPrecision(3))));

function step(text, label, score) {
  const item = element("li");
  // In an element of its own, a text that runs from right to left leaves the label as it is.
  item.append(element("bdi", text), " ", element("b", label.includes("/") ? label : `score ${label}`));
  item.style.setProperty("--mixed", `color-mix(in srgb, var(--right) ${100 * score}%, var(--wrong))`);
  return item;
}

const tell = (error) => { byId("notes").textContent = error.message; };  // the page below is covered

function other(row, onOpen) {
  const line = element("tr");
  line.tabIndex = 0;
  line.append(cell(row.source, "text"), cell(row.rank, "count"), cell(row.kept ? "kept" : "dropped", "text"),
    cell(row.bis, "number"), cell(labels(row).join(" "), "text"));
  line.addEventListener("click", onOpen);
  line.addEventListener("keydown", (event) => { if (event.key === "Enter") onOpen(); });
  return line;
}

export async function openRollout(row, selection, mark) {
  const query = new URLSearchParams({ source: row.source, rank: row.rank, number: selection });
  const found = await ask(`rollout?${query}`);
  const dialog = byId("rollout");
  byId("rollout-title").textContent = `${found.source}, rank ${number(found.rank)} of ${number(found.ranked)}`;
  byId("why").textContent = `${found.why}.`;
  byId("question").textContent = found.question ?? "";
  fill(byId("pictures"), found.pictures.map((url) => {
    const image = element("img");
    Object.assign(image, { src: url, alt: "image of the question" });
    return image;
  }));
  const texts = found.steps ?? found.scores.map(() => "");
  fill(byId("steps"), labels(found).map((label, place) => step(texts[place], label, found.scores[place])));
  fill(byId("facts"), [...FACTS.map(([name, title, digits]) => [title, found[name].toFixed(digits)]), ["id", found.rollout_id]].map(
    ([title, value]) => { const part = element("div"); part.append(element("dt", title), element("dd", value)); return part; }));
  const head = element("tr");
  for (const title of ["source", "rank", "selection", "BIS", "steps"]) head.append(element("th", title, title === "rank" || title === "BIS" ? "" : "text"));
  byId("others").tHead.replaceChildren(head);
  fill(byId("others").tBodies[0], found.others.map((each) => other(each, () => openRollout(each, selection, mark).catch(tell))));
  byId("notes").textContent = found.notes.length ? `Not shown: ${found.notes.join("; ")}` : "";
  let { marked } = found;
  const button = byId("mark");
  const name = () => { button.textContent = marked ? "Keep in" : "Leave out"; };
  button.onclick = () => mark(found.rollout_id, !marked).then(() => { marked = !marked; name(); }, tell);
  name();
  byId("close").onclick = () => dialog.close();
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
