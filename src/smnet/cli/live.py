"""``smnet live``."""

from __future__ import annotations

from typing import Annotated

import typer

from smnet.cli.hints import check_order
from smnet.cli.options import Device
from smnet.cli.timeline import Overlap, Thresholds
from smnet.errors import UserError


def live(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A checkpoint, the folder of a run, or an exported .onnx or .xml."),
    ],
    source: Annotated[
        str,
        typer.Argument(
            help="A camera (0, /dev/video0), rtsp://, http(s)://, srt:// or udp://, a file, or -"
            " for standard input."
        ),
    ],
    mode: Annotated[
        str,
        typer.Option(help="window: any model. causal: step by step. auto: causal if it can."),
    ] = "auto",
    rate: Annotated[
        float | None,
        typer.Option(metavar="FPS", help="Frames per second. Default: that of the checkpoint."),
    ] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play a file at its own pace; -: read it as live.")
    ] = False,
    high: Annotated[float, typer.Option(min=0, max=1, help="An event starts at this score.")] = 0.5,
    low: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="It lasts while the score is at least this. Default: 0.6 high."
        ),
    ] = None,
    shortest: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Shorter events are not reported.")
    ] = 0.5,
    overlap: Overlap = False,
    thresholds: Thresholds = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line per event.")] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="With --json: also a line per answer.")
    ] = False,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Post each event as JSON.")
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option(metavar="mqtt://HOST/TOPIC", help="Publish each event.")
    ] = None,
    record: Annotated[
        str | None, typer.Option(metavar="DIR", help="Keep a clip around each event.")
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Show a page on this machine's local address.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page.")] = 8720,
    silence: Annotated[
        float,
        typer.Option(
            min=0.5, metavar="SECONDS", help="A source that is silent for so long is lost."
        ),
    ] = 10.0,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 3,
    device: Device = "auto",
    backend: Annotated[
        str | None,
        typer.Option(help="torch or compile; onnxruntime or openvino for exported files."),
    ] = None,
) -> None:
    """Say what happens now in a live stream.

    Frames are taken by presentation time at the rate of the checkpoint. Under load the newest frame
    wins and dropped frames are counted. A lost source is opened again. Events have a start, updates
    and an end with one id. Ctrl-C ends with a summary.

    \b
    Examples:
      smnet live runs/mine 0
      smnet live runs/mine rtsp://camera/stream --json --webhook http://localhost:8123/api/webhook/x
      smnet live runs/mine http://camera/video.mjpg --page --record events/
      smnet live runs/causal clip.mp4 --realtime
    """
    from smnet.live.run import run
    from smnet.timeline.calibrate import read_calibration
    from smnet.timeline.segments import Limits

    check_order(checkpoint)
    low = 0.6 * high if low is None else low
    if low > high:
        raise UserError(f"--low {low:g} is above --high {high:g}; an event ends at a lower score")
    if scores and not as_json:
        raise UserError("--scores adds lines to --json; add --json")
    run(
        checkpoint,
        source,
        mode=mode,
        rate=rate,
        realtime=realtime,
        limits=Limits(high, low, shortest),
        by_class=read_calibration(thresholds).limits if thresholds else None,
        overlap=overlap,
        top=top,
        silence=silence,
        device=device,
        backend=backend,
        as_json=as_json,
        scores=scores,
        webhook=webhook,
        mqtt=mqtt,
        record=record,
        page=port if page else None,
    )
