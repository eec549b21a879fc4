"""Draw the moving picture of the README: python tools/demo_picture.py [--demo runs/demo].

It shows drawn clips that neither network has seen, and the scores that the two networks of
``smnet demo`` give to the frames shown so far.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from smnet import Recognizer
from smnet.data.open import open_video
from smnet.data.synthetic.motion import FPS, MOTION_CLASSES, write_motion

CLASSES = (
    "Moving something from left to right",
    "Turning something clockwise",
    "Moving two things apart",
)
NETWORKS = {"SMNet": "smnet", "TSN (same trunk, no temporal modules)": "tsn"}
SIDE, GAP, ROW = 240, 12, 21
"""Pixels: side of a clip, space between clips, height of a bar."""
HOLD_MS = 1800
"""Time that the last frame stays."""

Frames = list[NDArray[np.uint8]]
Scores = list[tuple[str, float]]


def draw_clips(folder: Path, seed: int) -> list[Frames]:
    """One clip of each class in ``CLASSES``, frames (H, W, 3)."""
    write_motion(folder, train=len(MOTION_CLASSES), val=len(MOTION_CLASSES), size=SIDE, seed=seed)
    clips = []
    for name in CLASSES:
        (path,) = (folder / "val" / name).glob("*.mp4")
        with open_video(path) as video:
            clips.append(list(video.read(range(video.num_frames))))
    return clips


def scores_so_far(recognizer: Recognizer, frames: Frames, folder: Path) -> list[Scores]:
    """For every frame, the two best classes of the clip up to this frame."""
    found = []
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:05d}.png")
        prediction = recognizer.predict(folder, top=2)
        found.append(list(zip(prediction.labels, prediction.scores, strict=True)))
    return found


def panel(frame: NDArray[np.uint8], truth: str, scores: dict[str, Scores]) -> Image.Image:
    """One frame of one clip with a bar per class and network below it."""
    head = ImageFont.load_default(11)
    text = ImageFont.load_default(12)
    height = SIDE + len(scores) * (18 + 2 * ROW + 6)
    image = Image.new("RGB", (SIDE, height), "white")
    image.paste(Image.fromarray(frame), (0, 0))
    pen = ImageDraw.Draw(image)
    y = SIDE + 4
    for name, rows in scores.items():
        pen.text((1, y), name, "#57606a", head)
        y += 18
        for label, score in rows:
            colour = "#7cc4a0" if label == truth else "#e3a49b"
            pen.rectangle((0, y, SIDE - 1, y + ROW - 4), "#eef1f4")
            pen.rectangle((0, y, round(score * (SIDE - 1)), y + ROW - 4), colour)
            pen.text((4, y + 1), label, "#1f2328", text)
            y += ROW
        y += 2
    return image


def draw(demo: Path, out: Path, seed: int) -> None:
    """Write the picture as an animated WebP."""
    networks = {
        name: Recognizer.load(demo / folder / "last.safetensors", device="cpu")
        for name, folder in NETWORKS.items()
    }
    with TemporaryDirectory() as temporary:
        clips = draw_clips(Path(temporary) / "motion", seed)
        scores: list[dict[str, list[Scores]]] = []
        for number, frames in enumerate(clips):
            scores.append({})
            for name, recognizer in networks.items():
                folder = Path(temporary) / f"{number}-{NETWORKS[name]}"
                folder.mkdir()
                scores[-1][name] = scores_so_far(recognizer, frames, folder)
    pictures = []
    for moment in range(max(map(len, clips))):
        panels = []
        for frames, truth, of_clip in zip(clips, CLASSES, scores, strict=True):
            now = min(moment, len(frames) - 1)
            rows = {name: found[now] for name, found in of_clip.items()}
            panels.append(panel(frames[now], truth, rows))
        width = len(panels) * (SIDE + GAP) - GAP
        picture = Image.new("RGB", (width, panels[0].height), "white")
        for number, part in enumerate(panels):
            picture.paste(part, (number * (SIDE + GAP), 0))
        pictures.append(picture)
    durations = [round(1000 / FPS)] * (len(pictures) - 1) + [HOLD_MS]
    pictures[0].save(
        out,
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        quality=70,
        method=6,
    )
    print(f"written: {out} ({out.stat().st_size / 1e3:.0f} kB, {len(pictures)} frames)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/assets/demo.webp"))
    parser.add_argument("--seed", type=int, default=7, help="of the drawn clips")
    arguments = parser.parse_args()
    draw(arguments.demo, arguments.out, arguments.seed)
