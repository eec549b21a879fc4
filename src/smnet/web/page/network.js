// A network in a worker: clips and streams in, scores out.

/** The description model.json. */
export async function describe() {
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error(`model.json: ${answer.status} ${answer.statusText}`);
  return answer.json();
}

async function download(name, size, tell) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  const bytes = new Uint8Array(size), reader = answer.body.getReader();
  let done = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (done + part.value.length > size) throw new Error(`${name}: is not the file of model.json`);
    bytes.set(part.value, done);
    done += part.value.length;
    tell(done / size);
  }
  if (done < size) throw new Error(`${name}: broke off after ${done} of ${size} bytes`);
  return bytes;
}

export class Network {
  /** Fetch and start the network; tell receives the share of the file that has come. */
  static async open(about, tell = () => {}) {
    const network = new Network(about), bytes = await download(about.file, about.bytes, tell);
    network.threads = (await network.ask({kind: "open", network: bytes, about}, [bytes.buffer]))
      .threads;
    return network;
  }

  constructor(about) {
    this.about = about;
    this.waiting = new Map();
    this.asked = 0;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), {type: "module"});
    this.worker.onmessage = ({data}) => {
      const {resolve, reject} = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.error) reject(new Error(data.error)); else resolve(data);
    };
    this.worker.onerror = event => {
      event.preventDefault();
      const error = new Error(event.message || "the network cannot be started in this browser");
      this.waiting.forEach(({reject}) => reject(error));
      this.waiting.clear();
    };
  }

  ask(message, moved = []) {
    return new Promise((resolve, reject) => {
      const id = this.asked++;
      this.waiting.set(id, {resolve, reject});
      this.worker.postMessage({id, ...message}, moved);
    });
  }

  /** Scores of a clip: uint8 (T * L, 3, size, size). */
  async score(views) {
    return (await this.ask({kind: "clip", views})).scores;
  }

  /** Scores after a frame of a stream that serves some ticks; null before T ticks. */
  async step(stream, frame, ticks = 1, restart = false) {
    return (await this.ask({kind: "step", stream, frame, ticks, restart})).scores;
  }

  end(stream) {
    return this.ask({kind: "end", stream});
  }
}

/** Labels with scores, best first; labels: how many. */
export function best({classes}, scores, labels = 5) {
  return classes.map((label, k) => [label, scores[k]]).sort((a, b) => b[1] - a[1]).slice(0, labels);
}

/** Whether the best score is too low for an answer. */
export const isUnknown = ({unknownBelow}, scores) => Math.max(...scores) < unknownBelow;
