// The storyboard: small pictures of the video, by time, listed in a WebVTT file.

const CUE_TIME = /^(?:(\d+):)?(\d{2}):(\d{2}\.\d{3})\s+-->\s+(?:(\d+):)?(\d{2}):(\d{2}\.\d{3})/;

/** Cues of a storyboard: [{start, end, url, x, y, width, height}], times in seconds. `base` is the file's own URL. */
export function parseStoryboard(text, base) {
  const cues = [];
  let times = null;
  for (const line of text.split(/\r?\n/)) {
    const match = CUE_TIME.exec(line);
    if (match) {
      times = [secondsOf(match[1], match[2], match[3]), secondsOf(match[4], match[5], match[6])];
    } else if (times && line.trim() !== "") {
      const cue = pictureOf(line.trim(), base);
      if (cue) cues.push({ start: times[0], end: times[1], ...cue });
      times = null;
    }
  }
  return cues;
}

/** The cue at `seconds`, or null. */
export function cueAt(cues, seconds) {
  return cues.find((cue) => seconds >= cue.start && seconds < cue.end) ?? null;
}

function secondsOf(hours, minutes, seconds) {
  return Number(hours ?? 0) * 3600 + Number(minutes) * 60 + Number(seconds);
}

function pictureOf(reference, base) {
  const url = new URL(reference, base);
  const region = /^#xywh=(?:pixel:)?(\d+),(\d+),(\d+),(\d+)$/.exec(url.hash);
  if (!region) return null;
  const [x, y, width, height] = region.slice(1).map(Number);
  url.hash = "";
  return { url: url.href, x, y, width, height };
}
