"""What the report looks like and how its players behave: the style sheet and the script of the page."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --card: #f6f8fa; --line: #d0d7de; --accent: #0b62a8;
  --good: #116329; --bad: #a40e26; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117; --card: #161b22; --line: #30363d; --accent: #6cb6ff;
  --good: #56d364; --bad: #ff8182; }
  figure > img { padding: .4rem; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
article:first-of-type { margin-top: 1rem; }
h3 { font-size: 1.05rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
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
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
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
.spectrogram { display: grid; grid-template-columns: 3.2rem 1fr; grid-template-rows: 9rem auto;
  gap: .15rem .4rem; color: var(--soft); font-size: .75rem; line-height: 1; }
.spectrogram .picture { position: relative; overflow: hidden; border-radius: .3rem;
  background: #000004; cursor: pointer; }
.spectrogram img { width: 100%; height: 100%; display: block; }
.spectrogram .frequency, .spectrogram .time { display: flex; justify-content: space-between; }
.spectrogram .frequency { flex-direction: column; text-align: right; }
.spectrogram .time { grid-column: 2; }
.head { position: absolute; top: 0; bottom: 0; left: 0; width: 2px; background: #fff; opacity: 0;
  box-shadow: 0 0 3px #000; pointer-events: none; }
.better { color: var(--good); } .worse { color: var(--bad); }
kbd { border: 1px solid var(--line); border-bottom-width: 2px; border-radius: .3rem; padding: 0 .35rem;
  font-size: .85em; background: var(--card); }
footer { color: var(--soft); font-size: .9rem; margin-top: 3rem; padding-bottom: 3rem; }
@media (max-width: 36rem) { header, main, footer { padding-left: .8rem; padding-right: .8rem; }
  h1 { font-size: 1.5rem; } article { padding: .7rem; }
  th, td { padding: .35rem .5rem; } .tiles dd { font-size: 1.25rem; } .tiles div { padding: .6rem .7rem; } }
@media print { audio, nav { display: none; } article { break-inside: avoid; } }
"""

SCRIPT = """
"use strict";
// Only one player at a time; within an example the next one goes on where the last one stood.
const players = [...document.querySelectorAll("article audio")];
const lastIn = new Map();
for (const player of players) {
  const example = player.closest("article");
  const picture = player.closest(".signal").querySelector(".picture");
  const head = picture.querySelector(".head");
  const show = () => {
    head.style.opacity = player.currentTime > 0 ? 0.9 : 0;
    head.style.left = 100 * player.currentTime / (player.duration || 1) + "%";
    if (!player.paused) requestAnimationFrame(show);
  };
  player.addEventListener("play", () => {
    const last = lastIn.get(example);
    if (last && last !== player && !last.ended && last.currentTime > 0) player.currentTime = last.currentTime;
    for (const other of players) if (other !== player) other.pause();
    lastIn.set(example, player);
    show();
  });
  player.addEventListener("seeked", show);
  picture.addEventListener("click", event => {
    const box = picture.getBoundingClientRect();
    lastIn.set(example, player);
    player.currentTime = (event.clientX - box.left) / box.width * (player.duration || 0);
    player.play();
  });
}
// 1, 2, 3 choose a player of the example that has the focus.
document.addEventListener("keydown", event => {
  const example = event.target.closest && event.target.closest("article");
  if (!example || event.ctrlKey || event.metaKey || event.altKey) return;
  const player = example.querySelectorAll("audio")[Number(event.key) - 1];
  if (player) { event.preventDefault(); player.focus(); player.paused ? player.play() : player.pause(); }
});
"""
