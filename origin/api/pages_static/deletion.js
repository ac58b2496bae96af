// Deleting a video from its watch page, for whoever keeps a creator's token in this browser.

import { ask, videoAt } from "./api.js";
import { byId, setText } from "./elements.js";
import { kept } from "./token.js";

let offered = false;

/** Shows the button; the first press asks, the second one deletes. */
export function offerDeletion(video) {
  if (offered || !kept()) return;
  offered = true;
  const [button, stop] = [byId("delete"), byId("delete-stop")];
  let asking = false;
  const confirm = (now, words) => {
    asking = now;
    stop.hidden = !now;
    setText(button, now ? "Delete for good" : "Delete video");
    setText(byId("delete-state"), words);
  };
  stop.addEventListener("click", () => confirm(false, ""));
  button.addEventListener("click", async () => {
    if (!asking) return confirm(true, "Its streams and its original file will be gone.");
    button.disabled = stop.disabled = true;
    try {
      await ask(videoAt(video.video_id), { method: "DELETE" });
      location.assign("/");
    } catch (error) {
      confirm(false, error.message);
      button.disabled = stop.disabled = false;
    }
  });
  byId("deletion").hidden = false;
}
