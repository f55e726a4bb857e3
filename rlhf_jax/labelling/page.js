"use strict";
// One item at a time: the server chooses it, the page shows it and sends what was judged. Texts
// enter the page as text nodes only, so that nothing in them is ever markup.

const $ = (id) => document.getElementById(id);
let task = null; // what is asked: kind, criteria, categories
let annotator = "";
let item = null; // what is shown: key, prompt, answers
let skipped = []; // keys, to be shown last
let started = 0; // when the item appeared
let busy = false; // a request is on its way
let strength = null; // of the next choice, 1 to 3
let ratings = {}; // criterion -> a rating of each answer, or null
let spans = []; // {start, end, quality, category}, in UTF-16 units of the answer
let category = "";
let selected = null; // {start, end} of the last selection in the answer

const NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const answerName = (i) => NAMES[i] ?? String(i + 1);
const STRENGTHS = ["slightly", "clearly", "much"];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function button(text, key, act, properties = {}) {
  const made = element("button", { type: "button", ...properties }, text);
  if (key) {
    made.append(" ", element("kbd", { textContent: key.shown ?? key.code ?? key, ariaHidden: "true" }));
    made.setAttribute("aria-keyshortcuts", key.code ?? key);
  }
  made.addEventListener("click", act);
  return made;
}

function textBox(text) {
  return element("div", { className: "text", dir: "auto", textContent: text });
}

function say(text) { $("status").textContent = text; }
function complain(text) { $("fault").textContent = text; }

// Requests

async function ask(action, message) {
  let response, found;
  try {
    response = await fetch(action, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ annotator, ...message }),
    });
    found = await response.json();
  } catch {
    throw new Error("No answer from rlhf label: is it still running? Earlier judgements are saved; this one is not.");
  }
  if (!response.ok) throw new Error(found.error);
  return found;
}

// One request at a time, so that a second click does nothing; an error leaves the item as it is.
async function exclusively(work) {
  if (busy) return;
  busy = true;
  complain("");
  try { await work(); } catch (error) { complain(error.message); } finally { busy = false; }
}

function send(judgement, words) {
  return exclusively(async () => {
    const seconds = (performance.now() - started) / 1000;
    await ask("judge", { key: item.key, seconds, ...judgement });
    await advance(`Saved: ${words}.`);
  });
}

async function advance(words) {
  const found = await ask("next", { skipped });
  $("bar").max = found.total;
  $("bar").value = found.done;
  $("count").textContent = `${found.done} of ${found.total}`;
  $("progress").hidden = $("undo").hidden = false;
  show(found.item);
  say(`${words} ${found.done} of ${found.total} judged.`);
}

const undo = () => exclusively(async () => {
  const found = await ask("undo", {});
  if (found.undone === null) return say("Nothing to undo.");
  skipped = skipped.filter((key) => key !== found.undone);
  await advance("Undone.");
  show(found.item);
});

const skip = () => exclusively(async () => {
  if (!item) return;
  skipped = [...skipped.filter((key) => key !== item.key), item.key];
  await advance("Skipped, to be shown again at the end.");
});

// What is shown

function show(next) {
  item = next;
  [strength, spans, selected, ratings] = [null, [], null, {}];
  for (const [id, shown] of [["work", item], ["end", !item]]) $(id).hidden = !shown;
  $("skip").hidden = !item;
  if (!item) return $("end").focus();
  $("prompt").replaceChildren(...item.prompt.map((turn) => element("div", { className: "turn" },
    element("div", { className: "role", textContent: turn.role }), textBox(turn.text))));
  $("answers").replaceChildren(...item.answers.map((text, i) => {
    const box = element("section", { className: "answer" });
    const name = item.answers.length > 1 ? `Answer ${answerName(i)}` : "Answer";
    box.append(element("h2", { textContent: name, id: `answer-${i}` }), textBox(text));
    box.setAttribute("aria-labelledby", `answer-${i}`);
    return box;
  }));
  $("controls").replaceChildren();
  KINDS[task.kind].show();
  window.scrollTo(0, 0);
  $("prompt").scrollTop = 0;
  $("asked").focus({ preventScroll: true });
  started = performance.now();
}

function group(label, ...children) {
  const made = element("div", { className: "group" }, ...children);
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", label);
  return made;
}

// Marks one button of several as pressed, or none.
function press(buttons, chosen) {
  buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(i === chosen)));
}

// Pairs

const CHOICES = [
  ["left", "A is better", { code: "ArrowLeft", shown: "←" }],
  ["tie", "Tie", "t"],
  ["both_bad", "Both bad", "b"],
  ["right", "B is better", { code: "ArrowRight", shown: "→" }],
];

function choose(choice, words) {
  const won = choice === "left" || choice === "right";
  return send({ choice, strength: won ? strength : null }, words);
}

function setStrength(value) {
  strength = strength === value ? null : value;
  press([...document.querySelectorAll(".strength button")], strength === null ? -1 : strength - 1);
  say(strength === null ? "No strength." : `${STRENGTHS[strength - 1]} better.`);
}

function showPair() {
  $("controls").append(
    group("How much better, if you like", element("span", { className: "hint", textContent: "If you like, by how much:" }),
      ...STRENGTHS.map((word, i) => button(word, String(i + 1), () => setStrength(i + 1)))),
    group("Which answer is better", ...CHOICES.map(([choice, words, key]) =>
      button(words, key, () => choose(choice, words), { className: `main ${choice}` }))),
  );
  $("controls").firstChild.classList.add("strength");
  $("controls").lastChild.classList.add("choices");
  setStrength(null);
  say("");
}

function pairKey(event) {
  const found = CHOICES.find(([, , key]) => (key.code ?? key) === event.key);
  if (found) return choose(found[0], found[1]), true;
  if ("123".includes(event.key)) return setStrength(Number(event.key)), true;
  return false;
}

// Ratings

function fieldsets() { return [...document.querySelectorAll("#answers fieldset")]; }

function showRatings() {
  for (const name of task.criteria) ratings[name] = item.answers.map(() => null);
  [...$("answers").children].forEach((box, i) => {
    for (const name of task.criteria) {
      const legend = element("legend", { textContent: name });
      const radios = [1, 2, 3, 4, 5].map((value) => element("label", {},
        element("input", { type: "radio", name: `${i} ${name}`, value }), ` ${value}`));
      const set = element("fieldset", {}, legend, ...radios);
      set.addEventListener("change", (event) => rate(set, i, name, Number(event.target.value)));
      box.append(set);
    }
  });
  const hint = "1 is worst, 5 is best; a digit rates the marked line";
  $("controls").append(
    button("Save", { code: "Enter", shown: "Enter" }, saveRatings, { className: "main", id: "save" }),
    element("span", { className: "hint", textContent: hint }));
  markCurrent();
}

function rate(set, i, name, value) {
  ratings[name][i] = value;
  set.dataset.rated = "yes";
  markCurrent();
}

// The line that a digit rates: the one with the focus, else the first without a rating.
function currentSet() {
  const focused = document.activeElement?.closest("fieldset");
  return focused ?? fieldsets().find((set) => !set.dataset.rated);
}

function markCurrent() {
  const open = fieldsets().filter((set) => !set.dataset.rated);
  for (const set of fieldsets()) set.classList.toggle("current", set === open[0]);
  for (const box of $("answers").children) box.classList.toggle("current", box.contains(open[0] ?? null));
  $("save").disabled = open.length > 0;
}

function saveRatings() {
  if (fieldsets().some((set) => !set.dataset.rated)) return say("Rate every line first.");
  return send({ ratings }, "ratings");
}

function ratingKey(event) {
  const set = currentSet();
  if ("12345".includes(event.key) && set) {
    const radio = set.querySelectorAll("input")[Number(event.key) - 1];
    radio.click();
    radio.blur();
    return true;
  }
  if (event.key === "Enter" && event.target.tagName !== "BUTTON") return saveRatings(), true;
  return false;
}

// Spans

const answerBox = () => document.querySelector("#answers .text");

// Positions count code points on the server, UTF-16 units in a browser.
const codePoints = (text, end) => Array.from(text.slice(0, end)).length;

function showSpans() {
  category ||= task.categories[0];
  $("answers").firstChild.append(element("ul", { id: "marks" }));
  answerBox().tabIndex = 0;
  answerBox().setAttribute("aria-describedby", "how");
  const pick = task.categories.map((name, i) => button(name, i < 9 ? String(i + 1) : "", () => setCategory(i)));
  const hint = "select words by the mouse, or ← → and Shift, then press g or b";
  $("controls").append(
    group("Category", ...pick),
    group("Mark the selection",
      button("Good", "g", () => mark("good")), button("Bad", "b", () => mark("bad"))),
    button("Save", { code: "Enter", shown: "Enter" }, saveSpans, { className: "main", id: "save" }),
    element("span", { className: "hint", textContent: hint, id: "how" }));
  $("controls").firstChild.classList.add("categories");
  setCategory(task.categories.indexOf(category));
  drawSpans();
}

function setCategory(i) {
  category = task.categories[i];
  press([...document.querySelectorAll(".categories button")], i);
}

// The selection within the answer; a button that is pressed on a phone would end it.
function noteSelection() {
  const box = item && task.kind === "spans" && answerBox();
  const selection = document.getSelection();
  if (!box || !selection.rangeCount || selection.isCollapsed) return;
  const range = selection.getRangeAt(0);
  if (!box.contains(range.startContainer) || !box.contains(range.endContainer)) return;
  const before = document.createRange();
  before.setStart(box, 0);
  before.setEnd(range.startContainer, range.startOffset);
  const text = range.toString(); // a span has no space at its ends
  const start = before.toString().length + text.length - text.trimStart().length;
  selected = text.trim() ? { start, end: start + text.trim().length } : null;
}

const marks = () => (spans.length === 1 ? "1 mark" : `${spans.length} marks`);

function mark(quality) {
  noteSelection(); // its event comes after that of the key
  if (!selected) return say("Select a part of the answer first.");
  spans.push({ ...selected, quality, category });
  spans.sort((a, b) => a.start - b.start || a.end - b.end);
  say(`Marked ${quality}, ${category}.`);
  selected = null;
  document.getSelection().removeAllRanges();
  drawSpans();
}

// The answer in pieces: every border of a mark begins another.
function drawSpans() {
  const text = item.answers[0];
  const borders = [...new Set([0, text.length, ...spans.flatMap((s) => [s.start, s.end])])].sort((a, b) => a - b);
  const pieces = borders.slice(1).map((end, i) => {
    const piece = text.slice(borders[i], end);
    const over = spans.filter((s) => s.start < end && borders[i] < s.end);
    if (!over.length) return piece;
    const quality = over.some((s) => s.quality === "bad") ? "bad" : "good";
    const title = over.map((s) => `${s.quality}: ${s.category}`).join(", ");
    return element("mark", { className: quality, textContent: piece, title });
  });
  answerBox().replaceChildren(...pieces);
  $("marks").replaceChildren(...spans.map((span, i) => {
    const quote = text.slice(span.start, span.end);
    const line = element("span", { textContent: `${span.quality}, ${span.category}: “${quote}”` });
    const remove = button("Remove", "", () => { spans.splice(i, 1); drawSpans(); });
    remove.setAttribute("aria-label", `Remove mark ${i + 1}`);
    return element("li", {}, line, remove);
  }));
  $("save").firstChild.textContent = spans.length ? `Save ${marks()}` : "Nothing to mark";
}

function saveSpans() {
  const text = item.answers[0];
  const sent = spans.map((s) => ({ ...s, start: codePoints(text, s.start), end: codePoints(text, s.end) }));
  return send({ spans: sent }, marks());
}

// Arrow keys select the next word, with Shift one more; without a mouse there is no other way.
function selectWord(event) {
  const selection = document.getSelection();
  const forward = event.key === "ArrowRight";
  if (!answerBox().contains(selection.focusNode)) selection.collapse(answerBox(), 0);
  if (!event.shiftKey) {
    if (!selection.isCollapsed) forward ? selection.collapseToEnd() : selection.collapseToStart();
    if (!forward) selection.modify("move", "backward", "word");
  }
  selection.modify("extend", forward || !event.shiftKey ? "forward" : "backward", "word");
}

function spanKey(event) {
  if (["ArrowLeft", "ArrowRight"].includes(event.key)) return selectWord(event), true;
  if (event.shiftKey) return false;
  if (event.key === "g" || event.key === "b") return mark(event.key === "g" ? "good" : "bad"), true;
  const i = "123456789".indexOf(event.key);
  if (i >= 0 && i < task.categories.length) return setCategory(i), true;
  if (event.key === "Enter" && event.target.tagName !== "BUTTON") return saveSpans(), true;
  return false;
}

const KINDS = {
  pairs: { show: showPair, key: pairKey, title: "Which answer is better?" },
  ratings: { show: showRatings, key: ratingKey, title: "How good is each answer?" },
  spans: { show: showSpans, key: spanKey, title: "What is good or bad?" },
};

// Keys and start

function onKey(event) {
  const typing = event.target.matches?.("input:not([type=radio]):not([type=checkbox])");
  if (!$("keys").checked || !task || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.repeat) return;
  const common = { u: undo, s: skip }[event.key];
  if (common) common();
  else if (!item || event.key.length > 1 && !/^(Enter|Arrow(Left|Right))$/.test(event.key)) return;
  else if (!KINDS[task.kind].key(event)) return;
  event.preventDefault();
}

function unsaved() {
  return spans.length > 0 || Object.values(ratings).some((column) => column.some((value) => value));
}

async function start() {
  const given = new URLSearchParams(location.search).get("annotator");
  task = await ask("task", {});
  annotator = given || task.annotator;
  $("title").textContent = document.title = KINDS[task.kind].title;
  document.body.classList.add(task.kind);
  if (!annotator) {
    $("name").hidden = false;
    return $("annotator").focus();
  }
  $("name").hidden = true;
  $("who").textContent = annotator;
  await advance("");
}

$("name").addEventListener("submit", (event) => {
  event.preventDefault();
  location.search = new URLSearchParams({ annotator: $("annotator").value });
});
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", skip);
document.addEventListener("keydown", onKey);
document.addEventListener("selectionchange", noteSelection);
window.addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });
exclusively(start);
