// MD5 (RFC 1321), which browsers do not offer and S3 stores check uploads by. It guards the transport; SHA-256 names the content.

const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];
const SINES = Int32Array.from({ length: 64 }, (_, index) => Math.floor(Math.abs(Math.sin(index + 1)) * 2 ** 32));
const FACTORS = [1, 5, 3, 7]; // which word of a block each step of a round takes
const OFFSETS = [0, 1, 5, 0];
const BLOCK = 64;
const words = new Int32Array(16);

/** The 16 bytes of the digest of an ArrayBuffer. */
export function md5(buffer) {
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  const whole = buffer.byteLength - (buffer.byteLength % BLOCK);
  const body = new DataView(buffer);
  for (let start = 0; start < whole; start += BLOCK) mix(state, body, start);
  const end = ending(buffer, whole);
  for (let start = 0; start < end.byteLength; start += BLOCK) mix(state, end, start);
  const digest = new DataView(new ArrayBuffer(16));
  state.forEach((word, index) => digest.setInt32(index * 4, word, true));
  return new Uint8Array(digest.buffer);
}

/** What is left of the body, a bit that is set, zeros, and the length in bits: one block or two. */
function ending(buffer, whole) {
  const rest = new Uint8Array(buffer, whole);
  const end = new Uint8Array(rest.length + 9 > BLOCK ? 2 * BLOCK : BLOCK);
  end.set(rest);
  end[rest.length] = 0x80;
  const view = new DataView(end.buffer);
  view.setBigUint64(end.length - 8, BigInt(buffer.byteLength) * 8n, true);
  return view;
}

/** Every part of a large file passes here: plain variables, no arrays made on the way. */
function mix(state, view, start) {
  for (let index = 0; index < 16; index += 1) words[index] = view.getInt32(start + index * 4, true);
  let a = state[0];
  let b = state[1];
  let c = state[2];
  let d = state[3];
  for (let step = 0; step < 64; step += 1) {
    const round = step >> 4;
    const shift = SHIFTS[round * 4 + (step & 3)];
    const sum = (a + chosen(round, b, c, d) + SINES[step] + words[(FACTORS[round] * step + OFFSETS[round]) & 15]) | 0;
    a = d;
    d = c;
    c = b;
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
}

function chosen(round, b, c, d) {
  if (round === 0) return (b & c) | (~b & d);
  if (round === 1) return (d & b) | (~d & c);
  if (round === 2) return b ^ c ^ d;
  return c ^ (b | ~d);
}
