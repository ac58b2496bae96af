// Asks control for its status every two seconds while the page is seen, and says so when control does not answer.

import { clock } from "./format.js";
import { draw } from "./view.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 5000;
const fresh = document.getElementById("fresh");
let last = null;
let timer = 0;

async function ask() {
  clearTimeout(timer);
  try {
    const answer = await fetch("/api/v1/status", { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    if (!answer.ok) throw new Error(`control answers ${answer.status}`);
    last = await answer.json();
    draw(last);
    document.body.classList.remove("lost");
    fresh.textContent = `As of ${clock(last.now)}, every 2 s.`;
  } catch {
    document.body.classList.add("lost");
    const shown = last ? `This is its state of ${clock(last.now)}.` : "";
    fresh.textContent = `Control does not answer; nodes go on by their last snapshot. ${shown}`;
  }
  if (!document.hidden) timer = setTimeout(ask, EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ask();
});
ask();
