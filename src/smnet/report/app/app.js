// What the pages share that are programs: the server's, and the one that runs in the browser alone.

export const get = id => document.getElementById(id);

export function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

/** Bars of labels with scores in [0, 1]. */
export function bars(element, pairs) {
  element.replaceChildren(...pairs.flatMap(([label, score]) => {
    const name = make("span", label), track = make("div"), bar = make("i");
    name.dir = "auto";
    bar.style.width = `${100 * score}%`;
    track.append(bar);
    return [name, track, make("em", `${Math.round(100 * score)} %`)];
  }));
}

export function say(error) {
  get("said").textContent = error ? error.message || String(error) : "";
}

/** A card for a video: the player, and where answers go. */
export function card(file) {
  const section = make("section", "", "card result"), video = document.createElement("video");
  const side = make("div", "", "answers"), now = make("div", "", "bars");
  const state = make("p", "waiting …", "soft");
  section.setAttribute("aria-label", file.name);
  Object.assign(video, {src: URL.createObjectURL(file), muted: true, loop: true, controls: true});
  video.playsInline = true;
  video.onerror = () => video.remove();
  video.play().catch(() => {});
  side.append(make("h2", file.name), state, now);
  section.append(video, side);
  get("results").prepend(section);
  return {video, side, now, state};
}

/** The picture of the camera in #view; null, with a message, if it cannot be used. */
export async function openCamera() {
  say();
  try {
    const media = await navigator.mediaDevices.getUserMedia(
      {video: {width: {ideal: 640}, facingMode: "environment"}});
    get("view").srcObject = media;
    await get("view").play();
    get("live").hidden = false;
    get("camera").textContent = "Stop the camera";
    get("now").replaceChildren();
    return media;
  } catch (error) {
    say(new Error(`The camera cannot be used (${error.message || error.name}).`));
    return null;
  }
}

export function closeCamera(media) {
  media.getTracks().forEach(track => track.stop());
  get("live").hidden = true;
  get("camera").textContent = "Use the camera";
}

/** Have all(files) called with the files that are chosen or dropped. */
export function takeFiles(all) {
  get("files").onchange = event => {
    const files = [...event.target.files];
    event.target.value = "";
    all(files);
  };
  document.ondragover = event => { event.preventDefault(); get("drop").classList.add("over"); };
  document.ondragleave = () => get("drop").classList.remove("over");
  document.ondrop = event => {
    event.preventDefault();
    get("drop").classList.remove("over");
    if (!get("controls").hidden) all([...event.dataTransfer.files]);
  };
}
