// Runs an artifact in onnxruntime-web and holds it against the golden vectors in its contract.
//
//     npm install onnxruntime-web && node benchmarks/runtimes/web.mjs policy.onnx
//
// The same module, given the file's bytes by fetch, works in a browser.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const ort = require("onnxruntime-web");
ort.env.wasm.numThreads = 1;

const TOLERANCE = 1e-5;

/** The contract: the metadata entry `wpg.contract`, which onnxruntime-web has no call for. */
function contractOf(bytes) {
  const text = new TextDecoder("latin1").decode(bytes);
  const start = text.indexOf('{"version":', text.lastIndexOf("wpg.contract"));
  const length = (place) => { // the varint that ends just before the text
    let first = place - 1;
    while (text.charCodeAt(first - 1) & 0x80) first -= 1;
    let value = 0;
    for (let i = place - 1; i >= first; i -= 1) value = value * 128 + (text.charCodeAt(i) & 0x7f);
    return value;
  };
  return JSON.parse(new TextDecoder().decode(bytes.subarray(start, start + length(start))));
}

const tensor = (rows, ...shape) => new ort.Tensor("float32", Float32Array.from(rows.flat(Infinity)), shape);

const bytes = new Uint8Array(await readFile(process.argv[2]));
const { golden, sampler } = contractOf(bytes);
const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
const [batch, particles] = [golden.obs.length, golden.noise[0].length];
const feed = {
  obs: tensor(golden.obs, batch, golden.obs[0].length),
  noise: tensor(golden.noise, batch, particles, sampler.noise_dim),
};
if (golden.previous) feed.previous = tensor(golden.previous, batch, golden.previous[0].length);
const found = await session.run(feed);

let worst = 0;
for (const name of ["particles", "values", "action", "spread"]) {
  golden[name].flat(Infinity).forEach((expected, i) => {
    worst = Math.max(worst, Math.abs(found[name].data[i] - expected) / (1 + Math.abs(expected)));
  });
}
console.log(`onnxruntime-web ${ort.env.versions.web}: largest error ${worst.toExponential(1)} of 1 + |value|`);
process.exit(worst <= TOLERANCE ? 0 : 1);
