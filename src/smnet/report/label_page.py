"""The page of ``smnet label``: one clip at a time, a key for each class."""

from __future__ import annotations

import json
from collections.abc import Sequence

from smnet.report import kit


def label_page(
    clips: Sequence[str], classes: Sequence[str], guesses: Sequence[Sequence[tuple[str, float]]]
) -> str:
    """The page as HTML.

    Args:
        clips: names of the clips, in the order in which they are asked.
        classes: that can be chosen; the first nine have the keys 1 to 9.
        guesses: of the network for each clip: (class, score), best first.
    """
    data = json.dumps({"clips": clips, "classes": classes, "guesses": guesses}, ensure_ascii=False)
    script = SCRIPT.replace("DATA", data.replace("<", "\\u003c"))
    return kit.page("Labels", [BODY, f"<script>{script}</script>"], style=STYLE)


BODY = """
<p id="where" class="soft"></p>
<div id="work"><video id="video" autoplay loop muted playsinline controls></video>
<p id="name" class="soft" dir="auto"></p><p id="guess" dir="auto"></p>
<div id="classes" class="row"></div>
<form id="other" class="row"><input id="text" placeholder="another class" autocomplete="off">
<button>label</button><button type="button" id="skip">skip (s)</button>
<button type="button" id="back">back (b)</button></form></div>
<p id="said" class="bad" role="alert"></p>
<p><button id="done">finish</button></p>
"""

STYLE = """
video{width:100%;max-width:720px;max-height:50vh;background:#000;border-radius:8px}
button,input{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:8px 14px}button{cursor:pointer}button.now{outline:2px solid var(--c1)}
#classes{gap:8px;margin:12px 0}#classes b{color:var(--soft);margin-right:8px}
"""

SCRIPT = """
const data = DATA, given = {};
const get = id => document.getElementById(id);
let at = 0;
function show() {
  const over = at >= data.clips.length;
  get("work").hidden = over;
  get("where").textContent = over
    ? `${Object.keys(given).length} of ${data.clips.length} clips are labelled.`
    : `Clip ${at + 1} of ${data.clips.length}, ${Object.keys(given).length} labelled`;
  if (over) { get("video").removeAttribute("src"); return; }
  get("video").src = "clip/" + at;
  get("name").textContent = data.clips[at];
  get("guess").textContent = data.guesses[at].length
    ? "The network says: " + data.guesses[at].map(([n, s]) => `${n} ${Math.round(100 * s)} %`)
      .join(", ") : "";
  get("classes").replaceChildren(...data.classes.map((name, k) => {
    const button = document.createElement("button"), key = document.createElement("b");
    key.textContent = k < 9 ? k + 1 : "";
    button.append(key, name);
    button.dir = "auto";
    button.className = given[at] === name ? "now" : "";
    button.onclick = () => label(name);
    return button;
  }));
}
async function send(where, body) {
  const answer = await fetch(where, {method: "POST", body: JSON.stringify(body)});
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
}
async function label(name) {
  try {
    await send("label", {clip: at, label: name});
    get("said").textContent = "";
    given[at] = name;
    if (!data.classes.includes(name)) data.classes.push(name);
    at += 1;
  } catch (error) {
    get("said").textContent = `Not saved (${error.message}). Is smnet label still running?`;
  }
  show();
}
get("other").onsubmit = event => {
  event.preventDefault();
  const name = get("text").value.trim();
  get("text").value = "";
  get("text").blur();
  if (name) label(name);
};
get("skip").onclick = () => { at += 1; show(); };
get("back").onclick = () => { at = Math.max(at - 1, 0); show(); };
get("done").onclick = async () => {
  try { await send("done", {}); } catch (error) {}
  document.body.textContent = "Finished. This page can be closed.";
};
document.onkeydown = event => {
  if (event.target === get("text") || event.ctrlKey || event.metaKey || event.altKey) return;
  const k = Number(event.key) - 1;
  if (k >= 0 && k < 9 && k < data.classes.length && at < data.clips.length) label(data.classes[k]);
  else if (event.key === "s") get("skip").click();
  else if (event.key === "b") get("back").click();
};
show();
"""
