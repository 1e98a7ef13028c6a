"""What the report looks like and how its players behave: the style sheet and the script of the page."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --card: #f6f8fa; --line: #d0d7de; --accent: #0b62a8;
  --good: #116329; --bad: #a40e26;
  --line0: #555555; --line1: #0072b2; --line2: #c24f00; --line3: #007a5a; --line4: #9a4d80; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117; --card: #161b22; --line: #30363d; --accent: #6cb6ff;
  --good: #56d364; --bad: #ff8182;
  --line0: #b4bcc5; --line1: #56b4e9; --line2: #ff9a4d; --line3: #2fd0a5; --line4: #e29ac8; }
  figure > img { padding: .4rem; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
article:first-of-type { margin-top: 1rem; }
h3 { font-size: 1.05rem; margin: 0 0 .2rem; }
p { max-width: 46rem; margin: .5rem 0; }
.soft, figcaption { color: var(--soft); font-size: .92rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; padding: 0; margin: 1rem 0 0; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .4rem .8rem; z-index: 2; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem;
  margin: 1rem 0; padding: 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem 1rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.tiles dd { margin: 0; white-space: nowrap; font-size: 1.6rem; font-weight: 650; line-height: 1.25; }
.tiles dt { color: var(--soft); font-size: .92rem; }
/* A shade at an edge shows that the table goes on there; the paper-coloured layers move with the content. */
.scroll { overflow-x: auto; background:
  linear-gradient(90deg, var(--paper) 40%, transparent) 0 0 / 2rem 100% no-repeat local,
  linear-gradient(270deg, var(--paper) 40%, transparent) 100% 0 / 2rem 100% no-repeat local,
  linear-gradient(90deg, var(--line), transparent) 0 0 / .8rem 100% no-repeat,
  linear-gradient(270deg, var(--line), transparent) 100% 0 / .8rem 100% no-repeat; }
table { overflow-wrap: normal; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .38rem .8rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom-width: 2px; white-space: nowrap; }
tbody th { font-weight: 600; }
article tbody th { white-space: nowrap; }
section > .scroll tbody th { min-width: 8rem; }
.number { text-align: right; white-space: nowrap; }
tbody tr:hover { background: var(--card); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem;
  overflow-x: auto; font-size: .9rem; }
figure { margin: 1rem 0; }
figure > img { max-width: 100%; height: auto; display: block; border-radius: .5rem; background: #fff; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr));
  gap: 0 1.5rem; }
article { border: 1px solid var(--line); border-radius: .7rem; padding: 1rem; margin: 0 0 1.2rem; }
.signals { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem;
  margin: .8rem 0; }
.signal h4 { margin: 0 0 .3rem; font-size: .95rem; }
.signal audio { width: 100%; height: 2.5rem; margin-top: .4rem; display: block; }
.signal.missing { color: var(--soft); }
.signal.playing h4 { color: var(--accent); }
.signal.playing .picture { box-shadow: 0 0 0 2px var(--accent); }
.switch { display: flex; flex-wrap: wrap; gap: .5rem; margin: .8rem 0; }
button { font: inherit; font-size: .95rem; color: var(--ink); background: var(--card); cursor: pointer;
  border: 1px solid var(--line); border-radius: .5rem; padding: .35rem .8rem; min-height: 2.4rem;
  text-align: left; }
button:hover:enabled { border-color: var(--accent); }
button[aria-pressed="true"] { background: var(--accent); border-color: var(--accent); color: var(--paper); }
button:disabled { color: var(--soft); cursor: default; border-style: dashed; opacity: .7; }
button kbd { color: var(--ink); }
.axes { display: grid; grid-template-columns: 3.2rem minmax(0, 1fr); grid-template-rows: 9rem auto;
  gap: .15rem .4rem; color: var(--soft); font-size: .75rem; line-height: 1; }
.picture { position: relative; overflow: hidden; border-radius: .3rem; background: #000004; cursor: pointer; }
.picture img, .picture svg { width: 100%; height: 100%; display: block; }
.marks, .time { display: flex; justify-content: space-between; }
.marks { flex-direction: column; text-align: right; }
.time { grid-column: 2; }
.head { position: absolute; top: 0; bottom: 0; left: 0; width: 2px; background: #fff; opacity: 0;
  box-shadow: 0 0 3px #000; pointer-events: none; }
.tracks { margin: 1rem 0; }
.tracks h4 { margin: .8rem 0 .3rem; font-size: .95rem; }
.tracks .axes { grid-template-rows: 6.5rem auto; }
.tracks .picture { background: var(--card); border: 1px solid var(--line); }
.tracks .head { background: var(--ink); box-shadow: none; }
.keys { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; margin: 0; padding: 0; font-size: .92rem; }
.key { display: inline-block; width: 1.6rem; margin-right: .5rem; vertical-align: middle; border-top: 3px solid; }
.key.dashed { border-top-style: dashed; }
polyline { fill: none; stroke: currentColor; stroke-width: 1.6px; vector-effect: non-scaling-stroke; }
polyline.dashed { stroke-dasharray: 6 4; }
polyline.level { stroke: var(--soft); stroke-width: 1px; stroke-dasharray: 2 3; }
.line0 { color: var(--line0); } .line1 { color: var(--line1); } .line2 { color: var(--line2); }
.line3 { color: var(--line3); } .line4 { color: var(--line4); }
.better { color: var(--good); } .worse { color: var(--bad); }
kbd { border: 1px solid var(--line); border-bottom-width: 2px; border-radius: .3rem; padding: 0 .35rem;
  font-size: .85em; background: var(--card); }
footer { color: var(--soft); font-size: .9rem; margin-top: 3rem; padding-bottom: 3rem; }
@media (max-width: 36rem) { header, main, footer { padding-left: .8rem; padding-right: .8rem; }
  h1 { font-size: 1.5rem; } article { padding: .7rem; }
  th, td { padding: .35rem .5rem; } .tiles dd { font-size: 1.25rem; } .tiles div { padding: .6rem .7rem; } }
@media print { audio, nav, .switch { display: none; } article { break-inside: avoid; } }
"""

SCRIPT = """
"use strict";
// Only one player at a time; within an example the next one goes on where the last one stood.
const players = [...document.querySelectorAll("article audio")];
const lastIn = new Map();
const exampleOf = element => element.closest && element.closest("article");
// In the order of the keys: those of missing signals have no player.
const playersIn = example => [...example.querySelectorAll(".signal")].map(s => s.querySelector("audio"));
function follow(player) {
  const example = exampleOf(player), last = lastIn.get(example);
  if (last && last !== player && !last.ended && last.currentTime > 0) player.currentTime = last.currentTime;
  lastIn.set(example, player);
  for (const other of players) if (other !== player) other.pause();
}
function start(player) {
  follow(player);
  // Who switches again before the sound has begun takes the wish back: no fault.
  player.play().catch(error => { if (error.name !== "AbortError") throw error; });
}
const toggle = player => player.paused ? start(player) : player.pause();
for (const player of players) {
  const example = exampleOf(player), signal = player.closest(".signal"), own = signal.querySelector(".picture");
  const button = example.querySelectorAll(".switch button")[playersIn(example).indexOf(player)];
  const pictures = [own, ...example.querySelectorAll(".tracks .picture")];
  const show = () => {
    for (const picture of pictures) {
      const head = picture.querySelector(".head");
      head.style.opacity = player.currentTime > 0 ? 0.9 : 0;
      head.style.left = 100 * player.currentTime / picture.dataset.seconds + "%";
    }
    if (!player.paused) requestAnimationFrame(show);
  };
  const mark = () => {
    signal.classList.toggle("playing", !player.paused);
    if (button) button.setAttribute("aria-pressed", String(!player.paused));
  };
  // The event comes a little later: who was stopped meanwhile must not stop the others.
  player.addEventListener("play", () => { if (!player.paused) follow(player); mark(); show(); });
  player.addEventListener("pause", mark);
  player.addEventListener("seeked", show);
  if (button) button.addEventListener("click", () => toggle(player));
  own.addEventListener("click", event => seek(player, own, event));
}
function seek(player, picture, event) {
  const box = picture.getBoundingClientRect();
  lastIn.set(exampleOf(player), player);
  player.currentTime = Math.min((event.clientX - box.left) / box.width * picture.dataset.seconds, player.duration || 0);
  start(player);
}
for (const picture of document.querySelectorAll(".tracks .picture")) picture.addEventListener("click", event => {
  const example = exampleOf(picture);
  seek(lastIn.get(example) || playersIn(example).find(Boolean), picture, event);
});
// 1 to 9 choose a player of the example that has the focus, else of the one that plays.
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !/^[1-9]$/.test(event.key)) return;
  const playing = players.find(player => !player.paused);
  const example = exampleOf(event.target) || (playing && exampleOf(playing));
  const player = example && playersIn(example)[Number(event.key) - 1];
  if (!player) return;
  event.preventDefault();
  player.focus({preventScroll: true});
  toggle(player);
});
"""
