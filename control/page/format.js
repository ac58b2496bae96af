// Numbers and times as operators read them. Pure.

const RATES = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Three significant digits, so that columns stay narrow: 0.25, 9.87, 123, 12 300. */
export function short(number) {
  if (number === 0) return "0";
  if (Math.abs(number) >= 100) return Math.round(number).toLocaleString("en-US").replaceAll(",", "\u202f");
  return String(Number(number.toPrecision(number < 1 ? 2 : 3)));
}

function scaled(number, base, units) {
  let step = 0;
  while (number >= base && step < units.length - 1) {
    number /= base;
    step += 1;
  }
  return `${short(number)}\u00a0${units[step]}`;
}

export const rate = (bps) => scaled(bps, 1000, RATES);
export const size = (bytes) => scaled(bytes, 1024, SIZES);
export const percent = (ratio) => (ratio === null ? "–" : `${ratio >= 0.9995 ? "100" : (ratio * 100).toFixed(1)}\u00a0%`);

/** 8 s, 5 min, 3 h, 2 d: the largest unit that is at least one. */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))}\u00a0s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}\u00a0min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}\u00a0h`;
  return `${Math.floor(seconds / 86400)}\u00a0d`;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

/** `1 node`, `2 nodes`. */
export const counted = (number, noun) => `${number}\u00a0${noun}${number === 1 ? "" : "s"}`;
