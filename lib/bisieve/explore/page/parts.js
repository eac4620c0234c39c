// Small parts of the page, and its requests. Paths are relative, so the token of the page's URL is in each.

export const byId = (id) => document.getElementById(id);
export const number = (value) => value.toLocaleString("en");

export function element(tag, text = "", classes = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (classes) made.className = classes;
  return made;
}

export function cell(value, form) {
  const isText = form !== "number" && form !== "count";
  const text = value === null || value === undefined ? "–"
    : form === "number" ? value.toFixed(4) : form === "count" ? number(value) : String(value);
  const made = element("td", text, isText ? `text ${form}` : "");
  if (form === "id") made.title = text;  // which is cut where the table is narrow
  return made;
}

// Without a value of its own an option has its text without spaces at the ends, which a source may have.
export const option = (value) => new Option(value, value);

export function fill(place, children) {
  place.replaceChildren(...children);
}

export function say(text, isProblem = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("problem", isProblem);
}

export const problem = (error) => say(error.message, true);

async function answered(request) {
  const response = await request.catch(() => { throw new Error("bisieve explore does not answer: is it still running?"); });
  if (response.ok) return response.json();
  const text = await response.text();
  let shown = text;
  try { shown = JSON.parse(text).error; } catch { /* plain text */ }
  throw new Error(shown);
}

export const ask = (path) => answered(fetch(path));
export const send = (path, body) => answered(fetch(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
}));
