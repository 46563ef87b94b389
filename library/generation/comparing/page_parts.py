"""The fixed parts of a comparison page: its frame, style and keyboard shortcuts."""

PAGE_TEXT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{summary}</p>
<label>size <input id="size" type="range" min="64" max="768" step="16" value="192"></label>
{verdict}
<p class=keys>Click an image to enlarge it. <kbd>←↑↓→</kbd> neighbours · <kbd>m</kbd> mark · <kbd>space</kbd> swap with the marked one ·
<kbd>b</kbd> blink between the two · <kbd>z</kbd> every pixel · <kbd>esc</kbd> back</p>
</header>
<table>
<thead>{heads}</thead>
<tbody>
{body}</tbody>
{foot}
</table>
<dialog id="large"><p><b></b> <span></span></p><div><img alt=""></div></dialog>
<script>{script}</script>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --side: 192px; --mark: #0b7a75; }
:root { --back: #f6f6f4; --ink: #1d1d1b; --soft: #6b6b66; --line: #dededa; --card: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --back: #161618; --ink: #ececea; --soft: #9a9a96; --line: #2e2e31; --card: #1f1f22; --mark: #4fc3bd; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; align-items: baseline; padding: 1rem 1.2rem .6rem; }
header { position: sticky; left: 0; width: 100vw; }
h1 { font-size: 1.25rem; margin: 0; overflow-wrap: anywhere; }
header p { margin: 0; color: var(--soft); }
header .keys, header .verdict { flex-basis: 100%; }
header .verdict { color: var(--ink); }
kbd { font: inherit; padding: 0 .3em; border: 1px solid var(--line); border-radius: 4px; background: var(--card); }
label { margin-left: auto; color: var(--soft); display: flex; gap: .5rem; align-items: center; }
table { border-collapse: separate; border-spacing: 0; padding: 0 1.2rem 3rem; }
thead { position: sticky; top: 0; z-index: 2; background: var(--back); }
th { font-weight: normal; text-align: center; padding: .2rem .3rem; color: var(--soft); }
th.file { color: var(--mark); font-weight: 600; text-align: left; max-width: calc(var(--side) * 2); overflow: hidden; white-space: nowrap; }
th.file { text-overflow: ellipsis; direction: rtl; border-left: 1px solid var(--line); padding-left: .5rem; }
tbody th { position: sticky; left: 0; z-index: 1; background: var(--back); text-align: left; vertical-align: top; padding-right: 1rem; }
.prompt { width: 12rem; max-height: calc(var(--side) + 1rem); overflow: auto; color: var(--ink); }
.prompt p { margin: 0 0 .2rem; overflow-wrap: anywhere; }
.prompt .negative, .prompt .seed { color: var(--soft); font-size: .85em; }
.prompt .negative::before { content: "not: "; }
td { padding: .3rem; vertical-align: top; }
td.none { color: var(--soft); text-align: center; vertical-align: middle; }
td button { display: block; padding: 0; border: 0; background: none; cursor: zoom-in; border-radius: 6px; }
td img { display: block; width: var(--side); height: auto; border-radius: 6px; background: var(--card); }
td button:hover, td button:focus-visible { outline: 2px solid var(--ink); }
td button.marked { outline: 3px solid var(--mark); outline-offset: 1px; }
tfoot th { position: sticky; left: 0; background: var(--back); text-align: left; vertical-align: top; }
tfoot td { font-variant-numeric: tabular-nums; color: var(--soft); font-size: .85em; text-align: center; }
tfoot b { display: block; color: var(--ink); font-size: 1.1em; }
tfoot .best b, tfoot .best span { color: var(--mark); }
tfoot .close b::after { content: " ≈"; color: var(--mark); }
tfoot .bar { display: block; height: 3px; margin-top: .2rem; background: var(--soft); border-radius: 2px; }
dialog { border: 0; outline: 0; padding: 0; overflow: hidden; width: 100vw; height: 100vh; max-width: none; max-height: none; }
dialog { background: #111; color: #fff; }
dialog[open] { display: flex; flex-direction: column; }
dialog p { margin: 0; padding: .5em 1em; text-align: center; }
dialog b { color: #4fc3bd; display: inline-block; min-width: 4.5em; }
dialog div { flex: 1; min-height: 0; display: flex; overflow: auto; cursor: zoom-out; }
dialog img { margin: auto; width: 100%; height: 100%; object-fit: contain; }
dialog.exact img { width: auto; height: auto; image-rendering: pixelated; }
"""

SCRIPT = """
const size = document.getElementById("size"), large = document.getElementById("large");
const resize = () => document.documentElement.style.setProperty("--side", size.value + "px");
try { size.value = sessionStorage.getItem("compared") || size.value; } catch (error) {}
resize();
size.oninput = () => { resize(); try { sessionStorage.setItem("compared", size.value); } catch (error) {} };
const buttons = row => [...row.querySelectorAll("td")].map(cell => cell.querySelector("button"));
const grid = [...document.querySelectorAll("tbody tr")].map(buttons);
let y = 0, x = 0, marked = null, other = false, blinking = 0;
const paint = () => {
  const shown = other && marked ? marked : grid[y][x];
  large.querySelector("img").src = shown.querySelector("img").src;
  large.querySelector("b").textContent = !marked ? "" : shown === marked ? "A (marked)" : "B";
  large.querySelector("span").textContent = shown.dataset.text;
};
const show = (down, right) => {
  if (!(grid[down] || [])[right]) return;
  [y, x] = [down, right];
  other = false;
  grid[y][x].focus({preventScroll: false});
  if (large.open) paint();
};
const open = () => { if (!large.open) large.showModal(); paint(); };
const still = () => { clearInterval(blinking); blinking = 0; };
const mark = () => {
  if (marked) marked.classList.remove("marked");
  marked = marked === grid[y][x] ? null : grid[y][x];
  if (marked) marked.classList.add("marked");
};
grid.forEach((row, down) => row.forEach((button, right) => {
  if (button) button.onclick = () => { show(down, right); open(); };
  if (button) button.onfocus = () => { [y, x] = [down, right]; };
}));
large.onclick = () => large.close();
large.onclose = () => { still(); other = false; };
const moves = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === size || !(grid[y] || [])[x]) return;
  const step = moves[event.key];
  if (step) show(y + step[0], x + step[1]);
  else if (event.key === "m") { mark(); if (large.open) paint(); }
  else if (event.key === "z" && large.open) large.classList.toggle("exact");
  else if (event.key === " " && large.open && marked) { still(); other = !other; paint(); }
  else if (event.key === "b" && marked) {
    open();
    if (blinking) still(); else blinking = setInterval(() => { other = !other; paint(); }, 600);
  }
  else return;
  event.preventDefault();
});
"""
