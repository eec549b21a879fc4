import {bars, card, closeCamera, get, openCamera, say, takeFiles} from "./app.js";
import {Camera} from "./camera.js";
import {Network, best, describe, isUnknown} from "./network.js";
import {readClip} from "./video.js";

let network = null, live = null;

async function begin() {
  const line = get("about");
  try {
    line.textContent = "Loading the network …";
    const about = await describe(), size = (about.bytes / 1e6).toFixed(1);
    network = await Network.open(about, share => {
      line.textContent = `Loading the network, ${size} MB: ${Math.round(100 * share)} %`;
    });
    line.textContent = `${about.model}, ${about.classes.length} classes, ${size} MB.`;
    get("classes").textContent = about.classes.join(", ");
    get("controls").hidden = false;
  } catch (error) {
    line.textContent = "";
    say(error);
  }
}

async function predict(file) {
  const {now, state} = card(file);
  try {
    const began = performance.now(), clip = await readClip(file, network.about);
    state.textContent = "scoring …";
    const read = performance.now(), scores = await network.score(clip.views);
    bars(now, best(network.about, scores));
    state.textContent = (isUnknown(network.about, scores)
      ? "Unknown: no score is high enough. " : "")
      + (clip.exact ? "" : "Frames by seeking, which may be one off. ")
      + `${clip.frames} frames, read in ${Math.round(read - began)} ms,`
      + ` scored in ${Math.round(performance.now() - read)} ms`;
  } catch (error) {
    state.className = "bad";
    state.textContent = error.message;
  }
}

async function all(files) {
  say();
  for (const file of files) await predict(file);
}

async function startCamera() {
  const media = await openCamera();
  if (!media) return;
  const {about} = network;
  const mode = `${about.state ? "frame by frame" : "windows"},`
    + ` ${about.cameraRate.toFixed(1)} frames per second`;
  get("rate").textContent = mode;
  const camera = new Camera(get("view"), network, ({scores, samples, delay}) => {
    if (scores) {
      bars(get("now"), best(about, scores));
      get("rate").textContent = `${mode}, ${Math.round(delay)} ms`;
    } else if (!get("now").children.length) {
      get("rate").textContent = `${mode}, ${samples} frames seen`;
    }
  }, error => { say(error); if (live) stopCamera(); });
  live = {media, camera};
}

function stopCamera() {
  const {media, camera} = live;
  live = null;
  camera.end();
  closeCamera(media);
}

get("camera").onclick = () => { if (live) stopCamera(); else startCamera(); };
takeFiles(all);
begin();
