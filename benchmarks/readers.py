"""The same task for each library: open a file, learn its length, return some of its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from smnet.data.open import open_video

Frames = NDArray[np.uint8]
Choose = Callable[[int], Sequence[int]]
"""Maps the number of frames to the requested indices, ascending."""
Reader = Callable[[Path, Choose], Frames]


def smnet(path: Path, choose: Choose) -> Frames:
    with open_video(path) as video:
        return video.read(choose(video.num_frames))


def pyav_sequential(path: Path, choose: Choose) -> Frames:
    """Decode from the beginning to the last requested frame.

    The number of frames is the declared one, or the number of packets.
    """
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        count = stream.frames
        if not count:
            count = sum(packet.size > 0 for packet in container.demux(stream))
            container.seek(0, stream=stream)
        wanted = choose(count)
        found = {}
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number >= wanted[-1]:
                break
    return np.stack([found[number] for number in wanted])


def decord(path: Path, choose: Choose) -> Frames:
    library = import_module("decord")
    reader = library.VideoReader(str(path), num_threads=1)
    frames: Frames = reader.get_batch(list(choose(len(reader)))).asnumpy()
    return frames


def torchcodec_exact(path: Path, choose: Choose) -> Frames:
    return _torchcodec(path, choose, "exact")


def torchcodec_approximate(path: Path, choose: Choose) -> Frames:
    return _torchcodec(path, choose, "approximate")


def _torchcodec(path: Path, choose: Choose, mode: str) -> Frames:
    decoders = import_module("torchcodec.decoders")
    decoder = decoders.VideoDecoder(
        str(path), seek_mode=mode, dimension_order="NHWC", num_ffmpeg_threads=1
    )
    frames: Frames = decoder.get_frames_at(indices=list(choose(len(decoder)))).data.numpy()
    return frames


def opencv(path: Path, choose: Choose) -> Frames:
    """Other frames are grabbed without conversion. For folders: ``imread``."""
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    if path.is_dir():
        names = sorted(path.iterdir())
        images = [cv2.imread(str(names[i])) for i in choose(len(names))]
        return np.stack([image[:, :, ::-1] for image in images])
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted = choose(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    found = {}
    for number in range(wanted[-1] + 1):
        if not capture.grab():
            break
        if number in wanted:
            found[number] = capture.retrieve()[1][:, :, ::-1]
    capture.release()
    return np.stack([found[number] for number in wanted])


def pillow_folder(path: Path, choose: Choose) -> Frames:
    """The baseline for folders: each file with Pillow."""
    from PIL import Image

    names = sorted(path.iterdir())
    return np.stack([np.asarray(Image.open(names[i]).convert("RGB")) for i in choose(len(names))])


READERS: dict[str, tuple[Reader, str]] = {
    # name: (reader, distribution)
    "PyAV, sequential": (pyav_sequential, "av"),
    "smnet": (smnet, "smnet-video"),
    "TorchCodec, exact": (torchcodec_exact, "torchcodec"),
    "TorchCodec, approximate": (torchcodec_approximate, "torchcodec"),
    "decord": (decord, "decord"),
    "OpenCV": (opencv, "opencv-python-headless"),
}
"""The readers that are compared; the first is the baseline."""

OF_FOLDERS = {"PyAV, sequential": pillow_folder, "smnet": smnet, "OpenCV": opencv}
"""The readers of folders of images; Pillow is the baseline."""


def installed() -> dict[str, str]:
    """Version of the library of each reader, or why it does not run here."""
    found = {}
    for name, (reader, distribution) in READERS.items():
        try:
            number = version(distribution)
            if reader.__module__ == __name__ and name not in ("PyAV, sequential", "smnet"):
                import_module({"OpenCV": "cv2"}.get(name, distribution))
        except PackageNotFoundError:
            found[name] = "not installed"
        except (ImportError, OSError, RuntimeError) as error:
            found[name] = f"does not load: {str(error).splitlines()[0][:80]}"
        else:
            found[name] = number
    return found
