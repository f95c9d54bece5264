// Reads what the page carries: `core` at once, everything else unpacked when it is asked for.

export const core = JSON.parse(document.getElementById("core").textContent);

export const canUnpack = typeof DecompressionStream === "function";

const TYPES = {
  u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array, i4: Int32Array,
  f4: Float32Array, f8: Float64Array,
};

const loaded = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else addEventListener("DOMContentLoaded", () => resolve(), { once: true });
});

let index = null;

export async function chunkIndex() {
  await loaded;
  index = index ?? JSON.parse(document.getElementById("chunks").textContent);
  return index;
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflated(text) {
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).arrayBuffer();
}

const known = new Map();

// {values, arrays} of a chunk; null if the page doesn't carry it or this browser can't unpack it.
export function chunk(name) {
  if (!known.has(name)) known.set(name, unpacked(name));
  return known.get(name);
}

async function unpacked(name) {
  await loaded;
  const element = document.getElementById(name);
  if (!element || !canUnpack) return null;
  const buffer = await inflated(element.textContent);
  const length = new DataView(buffer).getUint32(0, true), start = 4 + length;
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [key, [type, offset, size]] of Object.entries(header.arrays)) {
    arrays[key] = new TYPES[type](buffer, start + offset, size);
  }
  return { values: header.values, arrays };
}
