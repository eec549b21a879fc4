"""``smnet live``: one stream, and everything that its answers are passed on to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av

from smnet.console import console, json_text, output, printable
from smnet.live.outbox import Channel, Mqtt, Outbox, Webhook
from smnet.live.page import Page
from smnet.live.recorder import Recorder
from smnet.live.terminal import TerminalView, event_line
from smnet.live.watch import Answer, Watch, watch


def run(
    checkpoint: str | os.PathLike[str],
    source: str,
    *,
    as_json: bool = False,
    scores: bool = False,
    webhook: str | None = None,
    mqtt: str | None = None,
    record: str | None = None,
    page: int | None = None,
    **settings: Any,
) -> Watch:
    """Watch a source until it ends or Ctrl-C, and pass its answers on.

    Args:
        checkpoint, source, settings: see :func:`smnet.live.watch.watch`.
        as_json: print events as JSON lines; ``scores`` adds a line per answer.
        webhook, mqtt: addresses that events are sent to.
        record: folder of the clips around events.
        page: port of the page; None is no page.

    Raises:
        UserError: something cannot be opened.
    """
    channels: list[Channel] = [Webhook(webhook)] if webhook else []
    channels += [Mqtt(mqtt)] if mqtt else []
    recorder = Recorder(record, _say) if record else None
    shown: Page | None = None

    def frames(frame: av.VideoFrame, seconds: float) -> None:
        if recorder is not None:
            recorder.frame(frame, seconds)
        if shown is not None:
            shown.frame(frame, seconds)

    stream = watch(checkpoint, source, tell=_say, frames=frames, **settings)
    with ExitStack() as stack:
        outboxes = [Outbox(channel, _say) for channel in channels]
        if page is not None:
            shown = Page(f"{Path(stream.source.name).name}: {Path(checkpoint).name}", page)
            stack.callback(shown.close)
            _say(f"page: {shown.address}")
        _say(_opening(stream))
        draw = _drawer(stream, as_json, scores, stack)

        def pass_on(answer: Answer) -> None:
            for event in answer.events:
                for outbox in outboxes:
                    outbox.put(event.to_dict())
                if recorder is not None:
                    recorder.event(event)
            if shown is not None:
                shown.show(answer, stream.counts.dropped)
            draw(answer)

        last = 0.0
        try:
            for answer in stream:
                last = answer.seconds
                pass_on(answer)
        except KeyboardInterrupt:
            if events := tuple(stream.close()):
                pass_on(Answer(last, last, (), (), 0.0, events))
        finally:
            stream.close()
            for outbox in outboxes:
                outbox.close()
            if recorder is not None:
                recorder.close()
    if as_json:
        print(json_text({"type": "summary", **stream.summary()}), flush=True)
    _say(str(stream))
    for outbox in outboxes:
        _say(str(outbox))
    if recorder is not None:
        lost = f", {recorder.dropped} lost" if recorder.dropped else ""
        _say(f"{recorder.written} clips in {recorder.folder}{lost}")
    return stream


def _opening(stream: Watch) -> str:
    """What is about to happen, on one line."""
    scorer = stream.scorer
    mode = scorer.mode
    mode += f" (state of {scorer.state_bytes / 2**20:.1f} MiB)" if mode == "causal" else ""
    return (
        f"{stream.source.name}: {scorer.spec.name}, mode {mode},"
        f" {stream.rate:.3g} frames/s ({stream.rate_from}); Ctrl-C ends"
    )


def _drawer(
    stream: Watch, as_json: bool, scores: bool, stack: ExitStack
) -> Callable[[Answer], None]:
    """How answers are shown: JSON lines, a view in the terminal, or a line per event."""
    if as_json:
        return lambda answer: _print_json(answer, scores)
    if console.is_terminal and sys.stdout.isatty():
        return stack.enter_context(TerminalView(stream)).show
    return _print_lines


def _print_json(answer: Answer, scores: bool) -> None:
    if scores and answer.labels:
        print(json_text(answer.to_dict()))
    for event in answer.events:
        print(json_text(event.to_dict()))
    if answer.events or scores:
        sys.stdout.flush()


def _print_lines(answer: Answer) -> None:
    out = output()
    for event in answer.events:
        if event.type != "update":
            out.print(printable(event_line(event)), markup=False, soft_wrap=True)


def _say(line: str) -> None:
    console.print(printable(line), markup=False, soft_wrap=True)
