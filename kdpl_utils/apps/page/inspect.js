"use strict";
// Draws the page from one JSON, then filters and sorts its cards. Names and paths enter as text nodes only.
const data = JSON.parse(document.getElementById("data").textContent);
const control = (id) => document.getElementById(id);
const looks = data.models.map((model) => model.look);
const roles = data.models.map((model) => model.role);
const last = roles.length - 1;

// --- elements --------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "rect", "text"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const name = (text) => make("bdi", {}, text); // keeps its direction of writing to itself
const key = (look) => make("span", { class: `key ${look}` });
const percent = (share) => (share === undefined ? "–" : `${(100 * share).toFixed(1)}%`);
const bits = (value) => (value === undefined ? "–" : `${value.toFixed(2)} bits`);
const number = (count) => count.toLocaleString("en");

// --- all pictures together -------------------------------------------------------------------------------------------

function drawSummary() {
  for (const model of data.models) {
    control("models").append(make("li", {}, key(model.look), make("b", {}, model.role), ": ", name(model.name)));
  }
  const pictures = `${number(data.pictures)} picture${data.pictures === 1 ? "" : "s"}`;
  control("counts").textContent = `${pictures}, ${number(data.names)} names.`;
  for (const note of data.notes) control("notes").append(make("li", {}, note));
  data.summary.forEach((row, i) => {
    const cells = [percent(row.agreement), bits(row.kl), percent(row.confidence), bits(row.entropy)];
    const head = make("th", { scope: "row" }, key(looks[i]), roles[i]);
    const all = [...cells, percent(row.accuracy), percent(row.ece)].map((cell) => make("td", {}, cell));
    control("summary").append(make("tr", {}, head, ...all));
  });
  const some = `The ${number(data.shown.length)} of ${number(data.pictures)} pictures on which teacher and `;
  const all = data.shown.length === data.pictures;
  control("shown").textContent = all ? "All pictures are shown." : `${some}${roles[last]} differ most are shown.`;
}

const SIZE = 300; // of the reliability diagram; LEFT and LOW are what its axes take
const LEFT = 46;
const LOW = 40;
const across = (share) => LEFT + share * (SIZE - LEFT - 10);
const up = (share) => SIZE - LOW - share * (SIZE - LOW - 10);

// A role's marker, as in all figures: a square, a circle, a diamond.
function mark(look, x, y, r) {
  if (look === "teacher") return `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
  if (look === "before") return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
  return `M${x - r} ${y}L${x} ${y - r}L${x + r} ${y}L${x} ${y + r}z`;
}

function drawCalibration() {
  const curves = Object.entries(data.curves);
  if (!curves.length) {
    const words = "Without labels neither accuracy nor calibration can be measured.";
    control("calibration").append(make("p", {}, words));
    return;
  }
  const words = `Reliability diagram of ${roles.join(", ")}; its numbers are in the table below.`;
  const svg = make("svg", { role: "img", "aria-label": words, viewBox: `0 0 ${SIZE} ${SIZE}` });
  const label = (x, y, anchor, text, more = {}) => make("text", { x, y, "text-anchor": anchor, ...more }, text);
  svg.append(make("path", { class: "axis", d: `M${across(0)} ${up(1)}V${up(0)}H${across(1)}` }));
  svg.append(make("path", { class: "diagonal", d: `M${across(0)} ${up(0)}L${across(1)} ${up(1)}` }));
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(label(across(tick), up(0) + 15, "middle", tick), label(LEFT - 6, up(tick) + 4, "end", tick));
  }
  svg.append(label(across(0.5), SIZE - 6, "middle", "confidence (highest probability)"));
  svg.append(label(12, up(0.5), "middle", "accuracy", { transform: `rotate(-90 12 ${up(0.5)})` }));
  const body = make("tbody");
  curves.forEach(([role, points], i) => {
    const line = points.map(([confidence, accuracy]) => `${across(confidence)} ${up(accuracy)}`).join("L");
    for (const kind of ["rim", looks[i]]) svg.append(make("path", { class: `curve ${kind}`, d: `M${line}` }));
    const most = Math.max(...points.map((point) => point[2]));
    for (const [confidence, accuracy, count] of points) {
      const r = 2.5 + 5 * Math.sqrt(count / most);
      const d = mark(looks[i], across(confidence), up(accuracy), r);
      svg.append(make("path", { class: `mark ${looks[i]}`, d }));
      const cells = [confidence.toFixed(2), accuracy.toFixed(2), count].map((cell) => make("td", {}, cell));
      body.append(make("tr", {}, make("th", { scope: "row" }, role), ...cells));
    }
  });
  const caption =
    "Accuracy by confidence. On the diagonal a model is correct as often as it is confident; below it, less often. " +
    "A larger mark stands for more pictures.";
  const heads = ["model", "mean confidence", "accuracy", "pictures"].map((head) => make("th", { scope: "col" }, head));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  control("calibration").append(
    make("figure", {}, svg, make("figcaption", {}, caption)),
    make("details", {}, make("summary", {}, "The numbers of the diagram"), table),
  );
}

// --- one picture -----------------------------------------------------------------------------------------------------

function row(title, values, tops) {
  const svg = make("svg", { "aria-hidden": "true", width: "100%", height: 8 * values.length - 2 });
  values.forEach((value, i) => {
    svg.append(make("rect", { class: looks[i], y: 8 * i, width: `${(100 * value).toFixed(1)}%`, height: 6 }));
  });
  const cells = values.map((value, i) => {
    const text = value.toFixed(2);
    return make("td", {}, tops[i] ? make("b", {}, text) : text);
  });
  return make("tr", {}, make("th", { scope: "row" }, ...title), make("td", { class: "bars" }, svg), ...cells);
}

function card(entry, i) {
  const facts = make("p", { class: "facts" });
  facts.append(make("b", {}, bits(entry.kl[last])), " from the teacher");
  if (last === 2) facts.append(`, ${entry.kl[1].toFixed(2)} before`);
  const agreement = entry.agree ? { class: "same" } : { class: "other" };
  facts.append(" · ", make("span", agreement, entry.agree ? "agree" : "disagree"));
  if (entry.label !== null) facts.append(" · label ", name(entry.label));
  const body = make("tbody");
  for (const [title, ...values] of entry.table) {
    const star = title === entry.label ? [make("span", { title: "the label" }, "★"), " "] : [];
    body.append(row([...star, name(title)], values, entry.top.map((top) => top === title)));
  }
  const others = `${number(entry.others)} other name${entry.others === 1 ? "" : "s"}`;
  if (entry.others) body.append(row([make("i", {}, others)], entry.rest, []));
  const heads = roles.map((role, m) => make("th", { scope: "col" }, key(looks[m]), role.replace("student ", "")));
  const entropies = entry.entropy.map((value) => make("td", {}, value.toFixed(2)));
  const table = make(
    "table",
    { class: "answers" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "name"), make("td"), ...heads)),
    body,
    make("tfoot", {}, make("tr", {}, make("th", { scope: "row" }, "entropy, bits"), make("td"), ...entropies)),
  );
  const title = make("h3", { id: `t${i}` });
  entry.path.split("/").forEach((part, at) => title.append(at ? "/" : "", name(part)));
  const alt = entry.path + (entry.label === null ? "" : `, label ${entry.label}`);
  const image = make("img", { alt, width: entry.width, height: entry.height, src: entry.image });
  const article = { tabindex: "-1", "aria-labelledby": `t${i}` };
  return make("article", article, title, image, make("div", {}, facts, table));
}

// --- filters and sorting ---------------------------------------------------------------------------------------------

function prepare(entry, i) {
  entry.agree = entry.top[0] === entry.top[last];
  entry.right = entry.label === null ? "" : entry.top.map((top) => (top === entry.label ? "1" : "0")).join("");
  entry.fall = [entry.kl[1] - entry.kl[last]];
  entry.classes = new Set([entry.label, ...entry.top]);
  entry.text = [entry.path, ...entry.classes].join(" \n ").toLocaleLowerCase();
  entry.card = card(entry, i);
}

// Patterns of who is correct, a character for each model: 1 correct, 0 wrong, ? either.
function patterns() {
  const between = "?".repeat(last - 1);
  const found = [
    [`1${between}1`, `both correct: teacher, ${roles[last]}`],
    [`0${between}0`, `both wrong: teacher, ${roles[last]}`],
    [`1${between}0`, "only the teacher correct"],
    [`0${between}1`, `only the ${roles[last]} correct`],
  ];
  roles.forEach((role, i) => {
    const around = (digit) => "?".repeat(i) + digit + "?".repeat(last - i);
    found.push([around("1"), `${role} correct`], [around("0"), `${role} wrong`]);
  });
  if (last === 2) found.push(["?01", "learned: wrong before, correct after"]);
  if (last === 2) found.push(["?10", "unlearned: correct before, wrong after"]);
  return found;
}

// What to sort by: a value of an entry, the place of the model, 1 up or -1 down.
function orders() {
  const found = [
    [`kl ${last} -1`, "KL, largest first"],
    [`kl ${last} 1`, "KL, smallest first"],
  ];
  if (last === 2) found.push(["kl 1 -1", "KL before, largest first"]);
  if (last === 2) found.push(["fall 0 -1", "KL fell most"], ["fall 0 1", "KL rose most"]);
  roles.forEach((role, i) => {
    found.push([`confidence ${i} -1`, `${role} most confident`], [`confidence ${i} 1`, `${role} least confident`]);
  });
  found.push(["entropy 0 -1", "teacher's entropy, largest first"], ["path 0 1", "file name"]);
  return found;
}

function fill(id, options) {
  for (const [value, words] of options) control(id).append(make("option", { value }, words));
}

function matches(right, pattern) {
  return right !== "" && [...pattern].every((mark, i) => mark === "?" || mark === right[i]);
}

function fits(entry) {
  const words = control("text").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const [chosen, agree, pattern] = ["class", "agree", "right"].map((id) => control(id).value);
  return (
    words.every((word) => entry.text.includes(word)) &&
    (chosen === "" || entry.classes.has(classes[Number(chosen)])) &&
    (agree === "" || String(entry.agree) === agree) &&
    (pattern === "" || matches(entry.right, pattern))
  );
}

const list = control("cards");
const controls = ["text", "class", "agree", "right", "sort"].map(control);

function update() {
  const [by, place, direction] = control("sort").value.split(" ");
  const value = (entry) => (by === "path" ? entry.path : entry[by][Number(place)]);
  const order = [...data.shown].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return Number(direction) * (by === "path" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
  });
  let shown = 0;
  for (const entry of order) {
    entry.card.hidden = !fits(entry);
    entry.card.tabIndex = -1;
    if (!entry.card.hidden && shown++ === 0) entry.card.tabIndex = 0; // the list is one tab stop
    list.append(entry.card);
  }
  control("count").textContent =
    shown === 0 ? "No picture fits these filters." : `${shown} of ${order.length} pictures in this page fit.`;
}

function move(event) {
  const here = document.activeElement;
  if (here.parentElement !== list || event.altKey || event.ctrlKey || event.metaKey) return;
  const visible = [...list.children].filter((one) => !one.hidden);
  const place = visible.indexOf(here);
  const end = visible.length - 1;
  const forward = Math.min(place + 1, end);
  const back = Math.max(place - 1, 0);
  const keys = { ArrowDown: forward, ArrowRight: forward, ArrowUp: back, ArrowLeft: back, Home: 0, End: end };
  if (keys[event.key] === undefined) return;
  event.preventDefault();
  here.tabIndex = -1;
  visible[keys[event.key]].tabIndex = 0;
  visible[keys[event.key]].focus();
}

function reset() {
  for (const one of controls) {
    if (one.tagName === "SELECT") one.selectedIndex = 0;
    else one.value = "";
  }
  update();
  control("text").focus();
}

drawSummary();
drawCalibration();
data.shown.forEach(prepare);
const classes = [...new Set(data.shown.flatMap((entry) => [...entry.classes]))].filter((one) => one !== null).sort();
fill("class", classes.map((text, i) => [i, text]));
if (Object.keys(data.curves).length) fill("right", patterns());
else control("right").parentElement.hidden = true; // without labels nobody is correct
fill("sort", orders());
for (const one of controls) one.addEventListener("input", update);
control("reset").addEventListener("click", reset);
list.addEventListener("keydown", move);
update();
