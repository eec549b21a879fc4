// Which frames a network sees: the rules of smnet.data.sampling and smnet.live.clock, for one view.
// The order of the floating-point operations is theirs, so the frames are the same.
const EARLY = 1e-3;  // seconds, see smnet.data.sampling.rate
const JUMP = 2;  // seconds, see smnet.live.clock
const WINDOW = 64;  // frames of a dense clip

const places = (n, length) => Math.max(1, n - length + 1);

function everyTick(n, segments, length, offset = places(n, length) / segments / 2) {
  const tick = places(n, length) / segments;
  return Array.from({length: segments}, (_, i) => Math.trunc(offset + tick * i));
}

function strided(n, segments, start, stride) {
  return Array.from({length: segments}, (_, i) => (start + i * stride) % n);
}

const strideOf = segments => Math.max(1, Math.floor(WINDOW / segments));

// Frames, segments and frames per segment -> the first frame of each segment.
const RULES = {
  uniform: (n, segments, length) =>
    everyTick(n, segments, length, places(n, length) / segments * 0.5),
  dense(n, segments, length) {
    const stride = strideOf(segments);
    const last = Math.max(0, n - ((segments - 1) * stride + length));
    return strided(n, segments, Math.floor(last / 2), stride);
  },
  tsn: everyTick,
  "tam-uniform": everyTick,
  mmaction2: everyTick,
  tdn: (n, segments, length) => n > segments + length - 1
    ? everyTick(n, segments, length) : new Array(segments).fill(0),
  "tsm-dense": (n, segments) => strided(n, segments, 0, strideOf(segments)),
  "tam-dense"(n, segments) {
    const stride = strideOf(segments), last = Math.max(0, n - stride * segments);
    return strided(n, segments, Math.floor((last + 1) / 2), stride);
  },
};

const runs = (firsts, n, length) => firsts.flatMap(
  first => Array.from({length}, (_, k) => Math.min(first + k, n - 1)));

/** The frames of a clip by a rule: T * L indices of n frames. */
export function byRule(rule, n, segments, length = 1) {
  return runs(RULES[rule](n, segments, length), n, length);
}

/** The frames of a clip at a fixed rate: the first one at or after each tick. */
export function atRate(times, segments, rate, length = 1) {
  const n = times.length, first = times.map(time => time - times[0]), end = first[n - 1];
  const span = end + (n > 1 ? end / (n - 1) : 1 / rate);
  const start = Math.max(end - (segments - 1) / rate, 0) / 2;
  const ticks = Array.from({length: segments}, (_, i) => (start + i / rate) % span - EARLY);
  const found = ticks.map(tick => {
    const index = first.findIndex(time => time >= tick);
    return index < 0 ? n : index;
  });
  return runs(found, n, length);
}

/** The frames of a clip as its description asks for them. */
export function framesOf(times, {segments, length, rate, sampling}) {
  return rate ? atRate(times, segments, rate, length)
    : byRule(sampling, times.length, segments, length);
}

/** How many ticks of a rate each frame of a stream serves, by its time. */
export class Ticks {
  constructor(rate) {
    this.rate = rate;
    this.begin = null;
  }

  /** The ticks that a frame at this time (seconds) serves; null: time jumped, all begins anew. */
  serve(seconds) {
    const gone = seconds - this.last;
    const jumped = this.begin !== null
      && !(gone >= -1e-9 && gone <= Math.max(JUMP, 2 / this.rate));
    if (this.begin === null || jumped) {
      [this.begin, this.last, this.done] = [seconds, seconds, 1];
      return jumped ? null : 1;
    }
    const due = Math.trunc((seconds - this.begin + EARLY) * this.rate) + 1;
    const count = due - this.done;
    [this.done, this.last] = [due, seconds];
    return count;
  }
}
