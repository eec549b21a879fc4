import {bars, card, closeCamera, get, make, openCamera, say, takeFiles} from "./app.js";

const COLOURS = [1, 2, 3, 4, 5, 6].map(k => `var(--c${k})`);
const WIDTH = 320;  // of the pictures of a camera that are sent, pixels
const AHEAD = 2;  // pictures without an answer
let token = sessionStorage.getItem("token") || "";
let models = [];
let stream = null;

async function ask(where, options = {}) {
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const answer = await fetch(where, {...options, headers});
  const content = await answer.json().catch(() => ({error: answer.statusText}));
  if (answer.ok) return content;
  if (answer.status === 401) get("access").hidden = false;
  const later = answer.headers.get("Retry-After");
  throw new Error(content.error + (later ? ` (in ${later} s)` : ""));
}

function chosen() {
  return models.find(model => model.name === get("model").value) || models[0];
}

async function begin() {
  try {
    const found = await ask("v1/models");
    models = found.models;
    get("access").hidden = true;
    get("controls").hidden = false;
    get("model").replaceChildren(...models.map(model => make("option", model.name)));
    get("about").textContent =
      `Up to ${Math.round(found.upload / 2 ** 20)} MiB at a time. smnet ${found.version}.`;
    get("report").hidden = !found.report;
    describe();
    say();
  } catch (error) {
    get("about").textContent = "";
    say(error);
  }
}

function describe() {
  const model = chosen();
  get("classes").textContent =
    `${model.family}, version ${model.version}, ${model.classes.length} classes: `
    + model.classes.join(", ");
}

function form(file) {
  const data = new FormData();
  data.append("files", file);
  return {method: "POST", body: data};
}

const query = () => `?model=${encodeURIComponent(chosen().name)}`;

async function predict(file) {
  const {video, side, now, state} = card(file);
  const button = make("button", "When does it happen?");
  button.type = "button";
  const model = query();
  button.onclick = () => timeline(file, video, side, button, model);
  const why = make("button", "Why?");
  why.type = "button";
  why.onclick = () => explain(file, side, why, model);
  try {
    const answer = await ask(`v1/predict${model}`, form(file));
    const found = answer.results[0];
    bars(now, found.top.map(one => [one.label, one.score]));
    state.textContent = (found.unknown ? "Unknown: no score is high enough. " : "")
      + (found.damage ? "The file is damaged. " : "")
      + `${answer.model.name}, ${Math.round(1000 * answer.seconds.total)} ms`;
    side.append(button, ...(chosen().features ? [why] : []));
  } catch (error) {
    state.className = "bad";
    state.textContent = error.message;
  }
}

const clock = seconds => `${Math.floor(seconds / 60)}:`
  + (seconds % 60).toFixed(1).padStart(4, "0");

async function timeline(file, video, side, button, model) {
  button.disabled = true;
  button.textContent = "working …";
  try {
    const found = await ask(`v1/timeline${model}`, form(file));
    const labels = Object.keys(found.scores), strip = make("div", "", "strip");
    const colour = label => COLOURS[labels.indexOf(label) % COLOURS.length];
    strip.append(...found.segments.map(one => {
      const mark = make("i");
      mark.style.left = `${100 * one.start / found.duration}%`;
      mark.style.width = `${100 * (one.end - one.start) / found.duration}%`;
      mark.style.background = colour(one.label);
      mark.title = one.label;
      return mark;
    }));
    const head = make("b");
    strip.append(head);
    video.ontimeupdate = () => {
      head.style.left = `${100 * video.currentTime / found.duration}%`;
    };
    const moments = make("ul", "", "moments");
    moments.append(...found.segments.map(one => {
      const row = make("li"), jump = make("button"), key = make("span", "", "key");
      key.style.background = colour(one.label);
      jump.type = "button";
      jump.append(key, `${clock(one.start)} to ${clock(one.end)}  ${one.label}`
        + ` ${Math.round(100 * one.score)} %`);
      jump.onclick = () => { video.currentTime = one.start; video.play(); };
      row.append(jump);
      return row;
    }));
    const none = make("p", `Nothing in ${clock(found.duration)}.`, "soft");
    button.replaceWith(...(found.segments.length ? [strip, moments] : [none]));
  } catch (error) {
    button.disabled = false;
    button.textContent = "When does it happen?";
    side.append(make("p", error.message, "bad"));
  }
}

async function explain(file, side, button, model) {
  button.disabled = true;
  try {
    const found = await ask(`v1/explain${model}`, form(file));
    const most = Math.max(...found.maps.flat(2), 1e-9), pictures = make("div", "", "why");
    for (const [number, address] of found.frames.entries()) {
      const step = Math.floor(number * found.maps.length / found.frames.length);
      const picture = make("figure"), canvas = make("canvas");
      const value = found.curve[step].toFixed(2).replace("-", "−");
      picture.append(canvas, make("figcaption", value));
      pictures.append(picture);
      draw(canvas, address, found.maps[step], most);
    }
    const text = `Evidence for “${found.label}” in each frame. ${found.meaning}`;
    button.replaceWith(pictures, make("p", text, "soft"));
  } catch (error) {
    button.disabled = false;
    side.append(make("p", error.message, "bad"));
  }
}

async function draw(canvas, address, map, most) {
  const image = new Image(), cells = document.createElement("canvas");
  image.src = address;
  await image.decode();
  [canvas.width, canvas.height] = [image.width, image.height];
  [cells.width, cells.height] = [map[0].length, map.length];
  const small = cells.getContext("2d"), large = canvas.getContext("2d");
  map.forEach((row, y) => row.forEach((value, x) => {
    small.fillStyle = `rgba(255, 60, 0, ${0.75 * Math.max(value, 0) / most})`;
    small.fillRect(x, y, 1, 1);
  }));
  large.drawImage(image, 0, 0);
  large.drawImage(cells, 0, 0, canvas.width, canvas.height);
}

async function all(files) {
  say();
  for (const file of files) await predict(file);
}

async function startCamera() {
  const media = await openCamera();
  if (!media) return;
  const view = get("view"), canvas = document.createElement("canvas");
  const address = new URL("v1/camera", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  let waiting = 0, timer = 0, mode = "";
  stream = {media, socket};
  get("rate").textContent = "connecting …";
  const send = () => {
    if (waiting >= AHEAD || !view.videoWidth) return;
    waiting += 1;
    canvas.width = WIDTH;
    canvas.height = Math.round(WIDTH * view.videoHeight / view.videoWidth);
    canvas.getContext("2d").drawImage(view, 0, 0, canvas.width, canvas.height);
    const stamp = new DataView(new ArrayBuffer(8));
    stamp.setFloat64(0, performance.now() / 1000);
    canvas.toBlob(picture => {
      if (socket.readyState === WebSocket.OPEN) socket.send(new Blob([stamp, picture]));
    }, "image/jpeg", 0.85);
  };
  socket.onopen = () => socket.send(JSON.stringify({token, model: chosen().name}));
  socket.onmessage = event => {
    const answer = JSON.parse(event.data);
    if (answer.rate) {
      mode = `${answer.mode === "causal" ? "frame by frame" : "windows"},`
        + ` ${answer.rate.toFixed(1)} frames per second`;
      timer = setInterval(send, 1000 / answer.rate);
      send();
      return;
    }
    waiting -= 1;
    if (answer.top) {
      bars(get("now"), answer.top);
      get("rate").textContent = `${mode}, ${Math.round(1000 * answer.seconds)} ms`;
    } else if (!get("now").children.length) {
      get("rate").textContent = `${mode}, ${answer.samples} frames seen`;
    }
  };
  socket.onclose = event => {
    clearInterval(timer);
    if (stream && stream.socket === socket) {
      say(new Error(event.reason || "The server has ended the stream."));
      stopCamera();
    }
  };
}

function stopCamera() {
  const {media, socket} = stream;
  stream = null;
  socket.close();
  closeCamera(media);
}

get("model").onchange = () => { describe(); if (stream) { stopCamera(); startCamera(); } };
get("camera").onclick = () => { if (stream) stopCamera(); else startCamera(); };
get("report").onclick = async () => {
  const tab = window.open("", "_blank");  // before the answer, else it counts as a pop-up
  try {
    tab.location = (await ask("v1/report", {method: "POST"})).path.slice(1);
  } catch (error) {
    tab.close();
    say(error);
  }
};
get("access").onsubmit = event => {
  event.preventDefault();
  token = get("token").value.trim();
  sessionStorage.setItem("token", token);
  begin();
};
takeFiles(all);
begin();
