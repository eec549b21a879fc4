// What a camera shows, scored as it goes on: frame by frame if the network is causal, else by
// windows of the last T frames at its rate.
import {cropOf} from "./pixels.js";
import {Ticks} from "./sampling.js";
import {grab} from "./video.js";

const BACKLOG = 2;  // seconds of frames that may wait for a causal network
let streams = 0;

export class Camera {
  /** tell receives {scores, samples, delay}: scores are null before T samples. */
  constructor(video, network, tell, fail) {
    Object.assign(this, {video, network, tell, fail, stream: streams++});
    const {cameraRate: rate, segments, length} = network.about;
    this.ticks = new Ticks(rate);
    this.most = {frames: length, window: segments, waiting: Math.max(BACKLOG * rate, 2)};
    this.frames = [];
    this.window = [];
    this.samples = this.waiting = 0;
    this.restart = this.changed = this.busy = this.ended = false;
    this.look();
  }

  look() {
    if (this.ended) return;
    const next = (now, about = {}) => {
      this.look();
      try {
        this.take((about.captureTime || now) / 1000);
      } catch (error) {
        this.fail(error);
      }
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(next);
    else requestAnimationFrame(next);
  }

  take(seconds) {
    if (this.ended || !this.video.videoWidth) return;
    const {size, shortSide, length, state} = this.network.about;
    const ticks = this.ticks.serve(seconds);
    if (ticks === null) this.forget();
    if (ticks === 0 && length === 1) return;
    this.frames.push(cropOf(grab(this.video), size, shortSide));
    this.frames = this.frames.slice(-length);
    if (ticks === 0) return;
    const missing = new Array(length - this.frames.length).fill(this.frames[0]);
    const sample = [...missing, ...this.frames];
    this.samples += ticks || 1;
    if (state) this.step(sample[0], ticks || 1);
    else this.slide(sample, ticks || 1);
  }

  forget() {
    Object.assign(this, {frames: [], window: [], samples: 0, restart: true});
  }

  async step(frame, ticks) {
    if (this.waiting >= this.most.waiting) this.forget();  // the speed of motion must not change
    if (this.restart && this.waiting) return;
    const {restart} = this, began = performance.now();
    this.restart = false;
    this.waiting += 1;
    try {
      const scores = await this.network.step(this.stream, frame, ticks, restart);
      this.say(scores, began);
    } catch (error) {
      this.fail(error);
    } finally {
      this.waiting -= 1;
    }
  }

  async slide(sample, ticks) {
    for (let k = 0; k < ticks; k++) this.window.push(sample);
    this.window = this.window.slice(-this.most.window);
    this.changed = true;
    if (this.window.length < this.most.window) this.say(null, performance.now());
    while (this.changed && !this.busy && !this.ended && this.window.length === this.most.window) {
      [this.busy, this.changed] = [true, false];
      try {
        const frames = this.window.flat(), views = new Uint8Array(frames.length * frames[0].length);
        frames.forEach((frame, k) => views.set(frame, k * frame.length));
        const began = performance.now();
        this.say(await this.network.score(views), began);
      } catch (error) {
        this.fail(error);
        return;
      } finally {
        this.busy = false;
      }
    }
  }

  say(scores, began) {
    const {segments} = this.network.about;
    if (this.ended) return;
    this.tell({scores, samples: Math.min(this.samples, segments),
      delay: performance.now() - began});
  }

  end() {
    this.ended = true;
    if (this.network.about.state) this.network.end(this.stream).catch(() => {});
  }
}
