// Uploads a file with tus-js-client as its documentation shows it:
//   node tus-upload.mjs ENDPOINT TOKEN FILE [CHUNK_BYTES] [PARALLEL] [STOP_AFTER_BYTES] [UPLOAD_URL]
// Prints the upload's URL; with STOP_AFTER_BYTES it gives up there, as a browser does whose tab is closed.

import { createReadStream } from "node:fs";
import { basename } from "node:path";
import { Upload } from "tus-js-client";

const [endpoint, token, file, chunk = "0", parallel = "1", stopAfter = "0", uploadUrl = ""] = process.argv.slice(2);
const upload = new Upload(createReadStream(file), {
  endpoint,
  uploadUrl: uploadUrl || null,
  chunkSize: Number(chunk) || Infinity,
  parallelUploads: Number(parallel),
  retryDelays: [0, 100, 300, 1000, 3000, 5000],
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: basename(file), filetype: "video/mp4" },
  onError: (error) => {
    console.error(String(error));
    process.exitCode = 1;
  },
  onSuccess: () => console.log(upload.url),
  onChunkComplete: (size, accepted) => {
    if (Number(stopAfter) && accepted >= Number(stopAfter)) {
      console.log(upload.url);
      upload.abort();
    }
  },
});
upload.start();
