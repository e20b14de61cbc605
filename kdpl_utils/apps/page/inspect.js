"use strict";
// Filters and sorts the cards, which stand in the page as they are read without this script.
const data = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("cards");
const cards = [...list.children];
const control = (id) => document.getElementById(id);
const controls = ["text", "class", "agree", "right", "sort"].map(control);
data.forEach((entry, i) => {
  entry.card = cards[i];
  entry.text = entry.text.toLocaleLowerCase();
});

function fits(entry) {
  const words = control("text").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const chosen = control("class").value;
  const agree = control("agree").value;
  const pattern = control("right").value;
  return (
    words.every((word) => entry.text.includes(word)) &&
    (chosen === "" || entry.classes.includes(Number(chosen))) &&
    (agree === "" || String(entry.agree) === agree) &&
    (pattern === "" || matches(entry.right, pattern))
  );
}

// "1?0": the first is right, the last is wrong.  A picture without a label is neither.
function matches(right, pattern) {
  return right !== "" && [...pattern].every((mark, i) => mark === "?" || mark === right[i]);
}

function update() {
  const [key, place, direction] = control("sort").value.split(" ");
  const value = (entry) => (key === "path" ? entry.path : entry[key][Number(place)]);
  const order = [...data].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return Number(direction) * (key === "path" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
  });
  let shown = 0;
  for (const entry of order) {
    entry.card.hidden = !fits(entry);
    entry.card.tabIndex = -1;
    if (!entry.card.hidden && shown++ === 0) entry.card.tabIndex = 0; // the list is one tab stop
    list.append(entry.card);
  }
  control("count").textContent =
    shown === 0 ? "No picture fits these filters." : `${shown} of ${data.length} pictures in this page fit.`;
}

function move(event) {
  const card = document.activeElement;
  if (card.parentElement !== list || event.altKey || event.ctrlKey || event.metaKey) return;
  const visible = [...list.children].filter((one) => !one.hidden);
  const here = visible.indexOf(card);
  const last = visible.length - 1;
  const next = {
    ArrowDown: Math.min(here + 1, last),
    ArrowRight: Math.min(here + 1, last),
    ArrowUp: Math.max(here - 1, 0),
    ArrowLeft: Math.max(here - 1, 0),
    Home: 0,
    End: last,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  card.tabIndex = -1;
  visible[next].tabIndex = 0;
  visible[next].focus();
}

function reset() {
  for (const one of controls) {
    if (one.tagName === "SELECT") one.selectedIndex = 0;
    else one.value = "";
  }
  update();
  control("text").focus();
}

for (const one of controls) one.addEventListener("input", update);
control("reset").addEventListener("click", reset);
list.addEventListener("keydown", move);
document.querySelector(".controls").hidden = false;
if (control("right").length === 1) control("right").parentElement.hidden = true; // without labels nobody is right
update();
