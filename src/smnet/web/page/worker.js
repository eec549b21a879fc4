// Runs the network in a worker thread. Messages: {id, kind, ...} in, {id, ...} or {id, error} out.
import * as ort from "./onnxruntime/ort.wasm.bundle.min.js";

ort.env.logLevel = "error";
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
ort.env.wasm.wasmPaths = {
  wasm: new URL("./onnxruntime/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};

let session, description;
const streams = new Map();  // the state of each stream

const frameTensor = (data, lead) => new ort.Tensor(
  "uint8", data, [...lead, 3, description.size, description.size]);

const fresh = () => Object.fromEntries(Object.entries(description.state).map(([name, shape]) => [
  name, new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), shape)]));

/** The logits of the next frame, and the state after it. */
async function step(frame, state) {
  const results = await session.run({frame: frameTensor(frame, [1]), ...state});
  const after = Object.keys(state).map(name => [name, results[`${name}.next`]]);
  return [results.logits.data, Object.fromEntries(after)];
}

/** Scores of the mean of logits, as smnet.inference.streams.mean_scores. */
function scoresOf(rows) {
  const {temperature, several} = description;
  const mean = Array.from(rows[0], (_, k) =>
    rows.reduce((sum, row) => sum + row[k], 0) / rows.length / temperature);
  if (several) return mean.map(value => 1 / (1 + Math.exp(-value)));
  const most = Math.max(...mean), raised = mean.map(value => Math.exp(value - most));
  const sum = raised.reduce((a, b) => a + b);
  return raised.map(value => value / sum);
}

const KINDS = {
  async open({network, about}) {
    description = about;
    session = await ort.InferenceSession.create(network, {executionProviders: ["wasm"]});
    return {threads: ort.env.wasm.numThreads};
  },

  async clip({views}) {
    const {segments, length, size} = description;
    if (!description.state) {
      const frames = frameTensor(views, [1, segments * length]);
      return {scores: Array.from((await session.run({frames})).scores.data)};
    }
    let state = fresh(), logits;
    const rows = [];
    for (let k = 0; k < segments; k++) {
      [logits, state] = await step(views.slice(k * 3 * size ** 2, (k + 1) * 3 * size ** 2), state);
      rows.push(logits);
    }
    return {scores: scoresOf(rows)};
  },

  /** The scores after the next frames of a stream, once it has seen enough of them. */
  async step({stream, frame, ticks, restart}) {
    if (restart || !streams.has(stream)) streams.set(stream, {state: fresh(), rows: []});
    const now = streams.get(stream);
    for (let k = 0; k < ticks; k++) {
      const [logits, state] = await step(frame, now.state);
      now.state = state;
      now.rows = [...now.rows, logits].slice(-description.segments);
    }
    return {scores: now.rows.length < description.segments ? null : scoresOf(now.rows)};
  },

  async end({stream}) {
    streams.delete(stream);
    return {};
  },
};

// One message after another: a session runs one network at a time.
let before = Promise.resolve();
self.onmessage = ({data}) => {
  before = before.then(async () => {
    try {
      self.postMessage({id: data.id, ...await KINDS[data.kind](data)});
    } catch (error) {
      self.postMessage({id: data.id, error: error.message || String(error)});
    }
  });
};
