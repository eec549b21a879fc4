from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import smnet.data.video.base
from smnet.data.open import open_video, probe
from smnet.errors import UserError
from tests.videos import moving_frames

FRAMES = moving_frames(12, 40, 30)


def write_frames(
    folder: Path, names: list[str], frames: np.ndarray = FRAMES, **options: int
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, frames, strict=False):
        Image.fromarray(frame).save(folder / name, **options)
    return folder


def refused(path: Path, *arguments: str | int | None) -> str:
    with pytest.raises(UserError) as caught, open_video(path, *arguments) as video:  # type: ignore[arg-type]
        video.read(range(video.num_frames))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_numbers_count_not_letters(tmp_path: Path) -> None:
    folder = write_frames(tmp_path, [f"{i}.png" for i in range(8, 20)])
    with open_video(folder) as video:
        assert video.num_frames == 12
        assert np.array_equal(video.read([11, 0, 3, 0]), FRAMES[[11, 0, 3, 0]])
        assert (video.width, video.height, video.codec, video.fps) == (40, 30, "png", None)
        assert video.damage == 0


def test_jpegs_as_pillow_decodes_them(tmp_path: Path) -> None:
    folder = write_frames(tmp_path, [f"img_{i:05d}.JPG" for i in range(1, 13)])
    (folder / ".hidden_00001.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("x")
    (folder / "cover.jpg").write_bytes(b"no number, so no place in the order")
    for template in (None, "img_%05d.JPG"):
        with open_video(folder, template) as video:
            frames = video.read(range(12))
        for i in range(12):
            assert np.array_equal(frames[i], Image.open(folder / f"img_{i + 1:05d}.JPG"))
    assert probe(folder).codec == "jpeg"


def test_template_chooses_and_start_cuts(tmp_path: Path) -> None:
    folder = write_frames(tmp_path, [f"a_{i:03d}.png" for i in range(6)])
    write_frames(tmp_path, [f"b_{i:03d}.png" for i in range(6)], FRAMES[6:])
    assert "2 streams" in refused(folder)
    with open_video(folder, "b_%03d.png") as video:
        assert np.array_equal(video.read(range(6)), FRAMES[6:])
    with open_video(folder, "a_%03d.png", 2) as video:
        assert np.array_equal(video.read(range(4)), FRAMES[2:6])
    assert "number 9" in refused(folder, "a_%03d.png", 9)
    assert "named after c_%03d.png" in refused(folder, "c_%03d.png")
    assert "named after a_%05d.png" in refused(folder, "a_%05d.png")


def test_rgb_frames_are_read_beside_optical_flow(tmp_path: Path) -> None:
    names = [f"{kind}_{n:05d}.jpg" for kind in ("flow_x", "img", "flow_y") for n in range(1, 4)]
    with open_video(write_frames(tmp_path, names)) as video:
        assert video.num_frames == 3
        assert {name[:4] for name in video._files} == {"img_"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "template", ["img.jpg", "x/%05d.jpg", "%05d-%05d.jpg", "%s.jpg", "%5x.jpg"]
)
def test_bad_templates(tmp_path: Path, template: str) -> None:
    assert "img_%05d.jpg" in refused(write_frames(tmp_path, ["00001.png"]), template)


@pytest.mark.parametrize("template", [None, "%05d_cam2.png"])
def test_a_gap_is_named(tmp_path: Path, template: str | None) -> None:
    folder = write_frames(tmp_path, [f"{i:05d}_cam2.png" for i in (1, 2, 4, 5)])
    if template is None:
        for path in folder.iterdir():
            path.rename(folder / path.name.replace("_cam2", ""))
        assert "00003.png is missing, between 00002.png and 00004.png" in refused(folder)
    else:
        assert "00003_cam2.png is missing" in refused(folder, template)


def test_constant_steps_are_no_gap(tmp_path: Path) -> None:
    folder = write_frames(tmp_path, [f"{i}.png" for i in (0, 5, 10, 15)])
    with open_video(folder) as video:
        assert np.array_equal(video.read([3, 1]), FRAMES[[3, 1]])


def test_one_number_twice(tmp_path: Path) -> None:
    assert "the same number" in refused(write_frames(tmp_path, ["1.png", "01.png"]))


def test_empty_folders(tmp_path: Path) -> None:
    assert "it is empty" in refused(tmp_path)
    (tmp_path / "readme.md").write_text("x")
    assert "readme.md" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>404</html>", "not a JPEG or PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a JPEG or PNG"),
        ("cut", "damaged image"),
    ],
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_bad_image_is_named(
    tmp_path: Path, content: bytes | str, words: str, number: int
) -> None:
    folder = write_frames(tmp_path, ["1.jpg", "2.jpg"], moving_frames(2, 200, 200))
    path = folder / f"{number}.jpg"
    path.write_bytes(path.read_bytes()[:1500] if isinstance(content, str) else content)
    message = refused(folder)
    assert message.startswith(str(path))
    assert words in message


def test_frames_of_two_sizes(tmp_path: Path) -> None:
    folder = write_frames(tmp_path, ["1.png", "2.png"])
    write_frames(folder, ["3.png"], moving_frames(1, 20, 20))
    assert "20x20" in refused(folder)
    assert refused(folder).startswith(str(folder / "3.png"))


def test_absurd_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_frames(tmp_path, ["1.png"])
    monkeypatch.setattr(smnet.data.video.base, "MAX_PIXELS", 1000)
    assert "40x30 pixels exceed" in refused(folder)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_frames(tmp_path, ["1.png"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert refused(folder).startswith(str(folder / "1.png"))


def test_other_modes_become_rgb(tmp_path: Path) -> None:
    grey = FRAMES[0, :, :, 0]
    Image.fromarray(grey).save(tmp_path / "1.png")
    with open_video(tmp_path) as video:
        assert np.array_equal(video.read([0])[0], np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_short_side(tmp_path: Path, suffix: str) -> None:
    large = moving_frames(1, 320, 240)
    folder = write_frames(tmp_path, [f"1.{suffix}"], large, quality=95)
    with open_video(folder) as video:
        small = video.read([0], short_side=60)
        assert small.shape == (1, 60, 80, 3)
        assert video.read([0], short_side=999).shape == (1, 240, 320, 3)
    box = large[0].reshape(60, 4, 80, 4, 3).mean(axis=(1, 3))
    assert np.abs(small[0] - box).mean() < 8
