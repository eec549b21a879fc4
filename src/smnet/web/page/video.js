// The clip that a network sees of a file: uint8 (T * L, 3, size, size), as Python reads it.
//
// Frames come from WebCodecs by their number where the container is understood, and else from a
// video element that seeks, which may be a frame off.
import {trackOf} from "./containers.js";
import {cropOf, rgbOf, turned} from "./pixels.js";
import {framesOf} from "./sampling.js";

const PATIENCE = 20_000;  // ms without a frame
const PLANAR = {
  I420: (at, data) => at.map(({offset, stride}) => ({data, offset, stride, step: 1})),
  NV12: (at, data) => [
    {data, offset: at[0].offset, stride: at[0].stride, step: 1},
    {data, offset: at[1].offset, stride: at[1].stride, step: 2},
    {data, offset: at[1].offset + 1, stride: at[1].stride, step: 2},
  ],
};

/**
 * The clip of a file.
 *
 * input: {segments, length, rate, sampling, size, shortSide}. Returns {views, frames, exact}: the
 * pixels, the number of frames in the file, and whether frames were taken by their number.
 */
export async function readClip(file, input) {
  const track = "VideoDecoder" in self ? await trackOf(file) : null;
  if (track && track.times.length) {
    try {
      return await collect(input, track.times, wanted => decode(file, track, wanted), true);
    } catch (error) {
      console.warn(`${file.name}: ${error.message}`);
    }
  }
  if ("ImageDecoder" in self && await ImageDecoder.isTypeSupported(file.type || "?")) {
    return picture(file, input);
  }
  return seek(file, input);
}

async function collect(input, times, source, exact) {
  const indices = framesOf(times, input), crops = new Map();
  for await (const [index, picture] of source(new Set(indices))) {
    if (!crops.has(index)) crops.set(index, cropOf(picture, input.size, input.shortSide));
  }
  const views = new Uint8Array(indices.length * 3 * input.size ** 2);
  indices.forEach((index, k) => {
    if (!crops.has(index)) throw new Error(`frame ${index} did not decode`);
    views.set(crops.get(index), k * 3 * input.size ** 2);
  });
  return {views, frames: times.length, exact};
}

/** Pixels of a decoded frame, and its release. */
async function pixelsOf(frame, turns = 0) {
  try {
    const {visibleRect: {width, height}, format} = frame;
    const options = format in PLANAR ? {} : {format: "RGBA"};
    const data = new Uint8Array(frame.allocationSize(options));
    const at = await frame.copyTo(data, options);
    if (!(format in PLANAR)) {
      return turned({data, width, height, channels: 4}, turns);
    }
    const {matrix, fullRange} = frame.colorSpace;
    const rgb = rgbOf(PLANAR[format](at, data), width, height, matrix, fullRange);
    return turned({data: rgb, width, height, channels: 3}, turns);
  } finally {
    frame.close();
  }
}

/** Frames of a track by their number, decoded from the keyframe before each. */
async function* decode(file, track, wanted) {
  const {codec, description, colour} = track;
  // Of what the stream does not declare itself. Python's decoder takes BT.601 then, as here.
  const known = colour.matrix === "smpte170m" ? "smpte170m" : "bt709";
  const config = {codec, description, colorSpace: {...colour, primaries: known, transfer: known}};
  if (!(await VideoDecoder.isConfigSupported(config)).supported) {
    throw new Error(`${codec} is not decoded by this browser`);
  }
  const decoded = [], waits = [];
  let failure = null;
  const wake = () => waits.splice(0).forEach(resolve => resolve());
  const decoder = new VideoDecoder({
    output(frame) {
      if (wanted.has(frame.timestamp)) decoded.push(frame); else frame.close();
      wake();
    },
    error(error) { failure = error; wake(); },
  });
  try {
    decoder.configure(config);
    for (const [from, to] of stretches(track.packets, wanted)) {
      for (let k = from; k < to; k++) {
        const {offset, size, key, frame} = track.packets[k];
        const data = await file.slice(offset, offset + size).arrayBuffer();
        if (failure) throw failure;
        decoder.decode(new EncodedVideoChunk({
          type: key ? "key" : "delta", timestamp: frame < 0 ? -1 - k : frame, data,
        }));
        while (decoder.decodeQueueSize > 8 && !failure) {
          await inTime(new Promise(resolve => {
            waits.push(resolve);
            decoder.addEventListener("dequeue", resolve, {once: true});
          }));
        }
        while (decoded.length) yield await one(decoded.shift(), track.turns);
      }
      await inTime(decoder.flush());
      if (failure) throw failure;
      while (decoded.length) yield await one(decoded.shift(), track.turns);
    }
  } finally {
    decoded.forEach(frame => frame.close());
    if (decoder.state !== "closed") decoder.close();
  }
}

const one = async (frame, turns) => [frame.timestamp, await pixelsOf(frame, turns)];

/** Ranges of packets, each from a keyframe to the last one that a wanted frame needs. */
function stretches(packets, wanted) {
  const found = [];
  let from = 0, to = 0;
  packets.forEach(({key, frame}, k) => {
    if (key) {
      if (to > from) found.push([from, to]);
      [from, to] = [k, k];
    }
    if (wanted.has(frame)) to = k + 1;
  });
  if (to > from) found.push([from, to]);
  return found;
}

function inTime(promise) {
  let timer = 0;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the decoder does not answer")), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A moving picture: GIF, WebP, APNG. */
async function picture(file, input) {
  const decoder = new ImageDecoder({data: file.stream(), type: file.type});
  await inTime(decoder.completed);
  const times = [];
  let time = 0;
  for (let k = 0; k < decoder.tracks.selectedTrack.frameCount; k++) {
    const {image} = await decoder.decode({frameIndex: k});
    times.push(time / 1e6);
    time += image.duration || 1e5;
    image.close();
  }
  return collect(input, times, async function* (wanted) {
    for (const index of wanted) {
      const {image} = await decoder.decode({frameIndex: index});
      yield [index, await pixelsOf(image)];
    }
  }, true);
}

/** Frames at about the right times, by a video element. */
async function seek(file, input) {
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  video.preload = "auto";
  video.src = URL.createObjectURL(file);
  const refused = () => new Error(
    `${file.name}: this browser cannot play it; convert it to MP4 with H.264`);
  const event = name => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, {once: true});
    video.addEventListener("error", () => reject(refused()), {once: true});
  });
  try {
    await inTime(event("loadeddata"));
    if (!video.videoWidth) throw refused();  // only its sound
    if (video.duration === Infinity) {  // recorded by a browser: the length is at the end
      video.currentTime = 1e7;
      await inTime(event("seeked"));
    }
    const rate = await rateOf(video), count = Math.max(Math.round(video.duration * rate), 1);
    const times = Array.from({length: count}, (_, k) => k / rate);
    return await collect(input, times, async function* (wanted) {
      for (const index of [...wanted].sort((a, b) => a - b)) {
        video.currentTime = Math.min((index + 0.5) / rate, video.duration);
        await inTime(event("seeked"));
        yield [index, grab(video)];
      }
    }, false);
  } finally {
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
  }
}

/** Frames per second, by the times of the first frames; 25 where the browser does not tell. */
async function rateOf(video) {
  if (!video.requestVideoFrameCallback) return 25;
  const times = [];
  video.currentTime = 0;
  await video.play();
  const seen = new Promise(resolve => {
    const look = (_, {mediaTime}) => {
      times.push(mediaTime);
      if (times.length < 12) video.requestVideoFrameCallback(look); else resolve();
    };
    video.requestVideoFrameCallback(look);
    video.onended = resolve;
  });
  await Promise.race([seen, new Promise(resolve => { setTimeout(resolve, 2000); })]);
  video.pause();
  const gaps = times.slice(1).map((time, k) => time - times[k]).filter(gap => gap > 1e-3);
  return gaps.length ? Math.min(1 / Math.min(...gaps), 240) : 25;
}

/** What a video element or a camera shows: {data, width, height, channels}. */
export function grab(video) {
  const {videoWidth: width, videoHeight: height} = video;
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(video, 0, 0);
  return {data: context.getImageData(0, 0, width, height).data, width, height, channels: 4};
}
