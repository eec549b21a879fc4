"""How well a network names motion in front of a real camera: real pictures set in motion.

    python benchmarks/real_motion.py build CLIPS OUT       clips of known motion from real footage
    python benchmarks/real_motion.py score motion OUT      accuracy on them
    python benchmarks/real_motion.py drawn motion          accuracy on the drawn world
    python benchmarks/real_motion.py seen motion CLIPS     clips whose direction a person named

A clip is either a window that moves over the frames of a real clip (the class is how the picture
moves), or a piece of a real frame that moves over another clip. Both come with shake and with
compression. Nothing here is shared with the drawn world but the class names.
"""

from __future__ import annotations

import argparse
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from smnet import Recognizer
from smnet.data.open import open_video
from smnet.data.synthetic.world import BASIC_MOTIONS
from smnet.errors import UserError

WIDTH, HEIGHT = 192, 144
SUFFIXES = (".avi", ".mp4", ".mkv", ".webm")
SEEN = {
    "hmdb51/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": "right",
    "kinetics/R6llTwEh07w.mp4": "towards",
    "misc/video_large.webm": "towards",
    "odd/nasa_13013_vfr.mp4": "still",
    "odd/test_non_zero_start.mp4": "still",
    "ucf101/v_BaseballPitch_g01_c01.avi": "right",
}
"""Real clips by relative path, with a motion that a person can name."""

Frames = list[Image.Image]
Track = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    build_parser = verbs.add_parser("build")
    build_parser.add_argument("clips", type=Path)
    build_parser.add_argument("out", type=Path)
    build_parser.add_argument("--count", type=int, default=20, help="clips of each class")
    for verb, path in (("score", "data"), ("drawn", None), ("seen", "clips")):
        part = verbs.add_parser(verb)
        part.add_argument("checkpoint")
        if path:
            part.add_argument(path, type=Path)
        else:
            part.add_argument("--count", type=int, default=240)
    given = parser.parse_args()
    if given.verb == "build":
        build(given.clips, given.out, given.count)
    elif given.verb == "score":
        score(given.checkpoint, sorted(given.data.rglob("*.mp4")))
    elif given.verb == "drawn":
        drawn(given.checkpoint, given.count)
    else:
        seen(given.checkpoint, given.clips)


# --- build -------------------------------------------------------------------------------------


def build(clips: Path, out: Path, count: int) -> None:
    """Write ``count`` clips of each class to class folders, named after how they were made."""
    footage = [frames for path in sorted(clips.rglob("*")) if (frames := read(path))]
    print(f"{len(footage)} real clips")
    for label, motion in enumerate(BASIC_MOTIONS):
        for number in range(count):
            rng = np.random.default_rng((label, number, 7))
            windowed = number % 2 and motion not in ("apart", "together")
            kind = "window" if windowed else "piece"
            path = out / motion / f"{kind}-{number:03d}.mp4"
            if not path.exists():
                make = window if windowed else piece
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(rng, make(rng, footage, motion)))


def read(path: Path) -> Frames | None:
    """Up to 90 frames of a real clip, about 320 pixels wide; test patterns are left out."""
    if path.suffix not in SUFFIXES or "testsrc" in path.name or "derived" in path.name:
        return None
    try:
        with open_video(str(path)) as video:
            n = min(90, video.num_frames)
            if n < 16:
                return None
            frames = video.read(range(n), short_side=240)
    except UserError:
        return None
    pictures = [Image.fromarray(frame) for frame in frames]
    if np.std([np.asarray(p).mean() for p in pictures]) > 60 or np.asarray(pictures[0]).std() < 15:
        return None
    width, height = pictures[0].size
    scale = max(320 / width, 240 / height)
    size = (max(320, round(width * scale)), max(240, round(height * scale)))
    return [p.resize(size, Image.Resampling.BILINEAR) for p in pictures]


def sequence(rng: np.random.Generator, footage: Sequence[Frames], count: int) -> Frames:
    """Frames of a random real clip, playing to and fro, or one frame of it."""
    clip = footage[rng.integers(len(footage))]
    start = int(rng.integers(len(clip)))
    if rng.random() < 0.5:
        return [clip[start]] * count
    there_and_back = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]
    return [clip[there_and_back[(start + t) % len(there_and_back)]] for t in range(count)]


def course(rng: np.random.Generator, count: int) -> Track:
    """0 to 1 over the clip, with a random acceleration."""
    return np.asarray(np.linspace(0, 1, count) ** rng.uniform(0.7, 1.4))


def shake(rng: np.random.Generator, count: int, reach: float) -> Track:
    """(count, 2) pixels of a trembling hand."""
    rough = rng.normal(0, reach, (count + 2, 2))
    return np.asarray((rough[:-2] + rough[1:-1] + rough[2:]) / math.sqrt(3))


def sampled(picture: Image.Image, x: float, y: float, scale: float, angle: float) -> Image.Image:
    """The window of a picture whose content is moved by (x, y), scaled and turned clockwise about
    the centre."""
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    cx, cy = picture.width / 2, picture.height / 2
    ox, oy = WIDTH / 2 + x, HEIGHT / 2 + y
    matrix = (
        cosine,
        sine,
        cx - cosine * ox - sine * oy,
        -sine,
        cosine,
        cy + sine * ox - cosine * oy,
    )
    return picture.transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )


DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def window(rng: np.random.Generator, footage: Sequence[Frames], motion: str) -> Frames:
    """A window over real frames. The picture moves as the class says."""
    count = int(rng.integers(24, 72))
    pictures = sequence(rng, footage, count)
    if motion == "still":
        pictures = pictures[:1] * count
    t = course(rng, count)
    offset = shake(rng, count, rng.uniform(0, 1.0) if motion != "still" else rng.uniform(0, 0.3))
    scale, angle = np.ones(count), np.zeros(count)
    if motion in DIRECTIONS:
        spare = np.array((320 - WIDTH, 240 - HEIGHT)) * rng.uniform(0.6, 1.0)
        offset = offset + np.outer(t - 0.5, np.array(DIRECTIONS[motion]) * spare)
    elif motion in ("towards", "away"):
        grown = rng.uniform(1.3, 2.0) ** t
        scale = grown if motion == "towards" else grown[::-1]
    elif motion in ("clockwise", "counterclockwise"):
        sign = 1 if motion == "clockwise" else -1
        angle, scale = sign * rng.uniform(0.5, 1.5) * (t - 0.5), scale * 1.15
    elif motion == "shaking":
        offset = offset + shake(rng, count, rng.uniform(4, 12))
    return [
        sampled(p, float(x), float(y), float(s), float(a))
        for p, (x, y), s, a in zip(pictures, offset, scale, angle, strict=True)
    ]


def piece(rng: np.random.Generator, footage: Sequence[Frames], motion: str) -> Frames:
    """Pieces of real frames that move over a real clip."""
    count = int(rng.integers(24, 72))
    behind = sequence(rng, footage, count)
    if motion == "still":
        behind = behind[:1] * count
    calm = motion == "still"
    camera = shake(rng, count, rng.uniform(0, 0.3 if calm else 1.5))
    frames = [
        sampled(p, float(x), float(y), 0.7, 0) for p, (x, y) in zip(behind, camera, strict=True)
    ]
    t = course(rng, count)
    middle = np.array((WIDTH, HEIGHT)) / 2 + rng.uniform(-0.12, 0.12, 2) * (WIDTH, HEIGHT)
    places, scale, angle = [np.tile(middle, (count, 1))], np.ones(count), np.zeros(count)
    side = HEIGHT * rng.uniform(0.25, 0.5)
    if motion in DIRECTIONS:
        way = np.array(DIRECTIONS[motion]) * HEIGHT * rng.uniform(0.45, 0.8)
        places = [middle + np.outer(t - 0.5, way)]
    elif motion in ("towards", "away"):
        side *= 0.7
        grown = rng.uniform(1.8, 3.0) ** t
        scale = grown if motion == "towards" else grown[::-1]
    elif motion in ("clockwise", "counterclockwise"):
        side *= 1.4
        angle = (1 if motion == "clockwise" else -1) * rng.uniform(0.9, 2.5) * t
    elif motion in ("apart", "together"):
        side *= 0.7
        axis = rng.uniform(0, 2 * math.pi)
        rise = t if motion == "apart" else t[::-1]
        half = side * 0.5 + HEIGHT * rng.uniform(0.15, 0.25) * rise
        away = np.outer(half, (math.cos(axis), math.sin(axis)))
        places = [middle - away, middle + away]
    elif motion == "shaking":
        places = [middle + shake(rng, count, rng.uniform(4, 10))]
    for place in places:
        cut = cut_out(rng, footage)
        for k, frame in enumerate(frames):
            size = max(4, round(side * scale[k]))
            turned = cut.rotate(-math.degrees(angle[k]), Image.Resampling.BICUBIC)
            turned = turned.resize((size, size), Image.Resampling.BILINEAR)
            x, y = place[k] + camera[k] - size / 2
            frame.paste(turned, (round(x), round(y)), turned)
    return frames


def cut_out(rng: np.random.Generator, footage: Sequence[Frames]) -> Image.Image:
    """A piece of a real frame with a soft edge, 96 pixels wide, RGBA."""
    (picture,) = sequence(rng, footage, 1)
    part = int(rng.integers(60, 200))
    x = int(rng.integers(0, picture.width - part))
    y = int(rng.integers(0, picture.height - part))
    piece = picture.crop((x, y, x + part, y + part)).resize((96, 96), Image.Resampling.BILINEAR)
    mask = Image.new("L", (96, 96), 0)
    draw = ImageDraw.Draw(mask)
    if rng.random() < 0.4:
        draw.ellipse((6, 6 + rng.integers(0, 20), 90, 90), 255)
    else:
        angles = np.sort(rng.uniform(0, 2 * math.pi, 7))
        points = 48 + np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(28, 44, (7, 1))
        draw.polygon([tuple(p) for p in points.tolist()], 255)
    piece.putalpha(mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2))))
    return piece


def encode(rng: np.random.Generator, frames: Frames) -> bytes:
    """H.264 of a random quality; half of the clips are JPEG frames before."""
    jpeg, quality = rng.random() < 0.5, int(rng.integers(30, 80))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": "veryfast", "crf": str(int(rng.integers(20, 34)))}
        stream = container.add_stream(
            "libx264", rate=int(rng.choice((12, 25, 30))), options=options
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            if jpeg:
                frame.convert("RGB").save(packed := io.BytesIO(), "JPEG", quality=quality)
                frame = Image.open(packed)
            container.mux(stream.encode(av.VideoFrame.from_image(frame.convert("RGB"))))
        container.mux(stream.encode())
    return file.getvalue()


# --- score -------------------------------------------------------------------------------------


def score(checkpoint: str, paths: Sequence[Path]) -> None:
    """Print the accuracy by class and by making of the clips in class folders."""
    recognizer = Recognizer.load(checkpoint, device="cpu")
    rows = []
    for path, answer in zip(
        paths, recognizer.predict_many(map(str, paths), workers=1), strict=True
    ):
        rows.append((path.parent.name, path.name.partition("-")[0], answer.label))
    report(rows)


def drawn(checkpoint: str, count: int) -> None:
    """Print the accuracy on new clips of the drawn world."""
    import torch

    from smnet.checkpoints.file import load
    from smnet.data.loading.transforms import normalise
    from smnet.data.synthetic.world import draw_textures, draw_world_clip, random_symmetry

    torch.set_num_threads(1)
    model, rng = load(checkpoint), np.random.default_rng(10**6)
    textures, rows = draw_textures(rng, 60), []
    for _ in range(count):
        clip, label = random_symmetry(rng, *draw_world_clip(rng, textures))
        with torch.no_grad():
            scores = model(normalise(clip[None], model.spec.mean, model.spec.std))
        rows.append((BASIC_MOTIONS[label], "drawn", BASIC_MOTIONS[int(scores.argmax())]))
    report(rows)


def seen(checkpoint: str, clips: Path) -> None:
    """Print the answers to the clips of :data:`SEEN`."""
    recognizer = Recognizer.load(checkpoint, device="cpu")
    rows = []
    for name, motion in SEEN.items():
        answer = recognizer.predict(str(clips / name), top=3)
        rows.append((motion, "seen", answer.label))
        scores = [f"{w} {s:.2f}" for w, s in zip(answer.labels, answer.scores, strict=True)]
        print(f"{name}: {motion}; {', '.join(scores)}")
    report(rows)


def report(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print the accuracy by making, and by class with the most frequent mistake."""
    for column in (1, 0):
        groups: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for row in rows:
            groups[row[column]].append(row)
        for name, group in groups.items():
            right = sum(truth == answer for truth, _, answer in group)
            wrong = [answer for truth, _, answer in group if truth != answer]
            most = max(set(wrong), key=wrong.count) if wrong else "-"
            print(f"{name:18} {right:3} of {len(group):3}  {right / len(group):6.1%}  {most}")
    right = sum(truth == answer for truth, _, answer in rows)
    print(f"{'all':18} {right:3} of {len(rows):3}  {right / len(rows):6.1%}")


if __name__ == "__main__":
    main()
