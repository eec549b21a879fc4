"""``smnet serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from smnet.cli.options import Device, Processes, Views
from smnet.errors import missing_extra


def serve(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Checkpoints, folders of runs, names of smnet weights, or exported files. The"
            " first one is the default.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at. Others than the local one need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port. 0: any free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="SMNET_TOKEN", help="Requests need it: Authorization: Bearer TOKEN."),
    ] = None,
    allow_addresses: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX",
            help="Videos may be given by addresses that begin so: https://host/folder/. May be"
            " repeated.",
        ),
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, help="Requests in progress; more are refused with 503.")
    ] = 32,
    upload: Annotated[int, typer.Option(min=1, metavar="MIB", help="Size of a request.")] = 100,
    length: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Length of a video.")
    ] = 600.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Time for decoding a video.")
    ] = 60.0,
    memory: Annotated[
        int, typer.Option(min=64, metavar="MIB", help="Memory for decoding a video.")
    ] = 2048,
    workers: Processes = None,
    batch: Annotated[int, typer.Option(min=1, help="Videos per run of a network.")] = 8,
    wait: Annotated[
        float,
        typer.Option(min=0, max=1000, metavar="MS", help="Wait for further videos of a batch."),
    ] = 5.0,
    drain: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="At the end, time for accepted requests."),
    ] = 60.0,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", help="A page of smnet evaluate, with the mistakes."),
    ] = None,
    views: Views = "1x1",
    device: Device = "auto",
    backend: Annotated[
        str | None,
        typer.Option(help="torch or compile; onnxruntime or openvino for exported files."),
    ] = None,
) -> None:
    """Answer requests over HTTP, and serve a page.

    The page takes videos and the camera. Requests: POST /v1/predict, /v1/timeline, /v1/embed,
    /v1/explain; GET /v1/models, /openapi.json, /healthz, /readyz, /metrics. Uploads are decoded in
    processes with limits and are not kept. SIGTERM answers accepted requests and ends.

    \b
    Examples:
      smnet serve runs/mine
      curl -F files=@clip.mp4 http://127.0.0.1:8000/v1/predict
      SMNET_TOKEN=$(openssl rand -hex 16) smnet serve runs/mine/best.onnx --host 0.0.0.0
    """
    from smnet.recipes.views import parse_views
    from smnet.serve.limits import Limits, check_prefixes

    limits = Limits(
        requests=requests,
        upload=upload << 20,
        length=length,
        memory=memory << 20,
        timeout=timeout,
        timeline=10 * timeout,
        addresses=check_prefixes(allow_addresses or []),
    )
    try:
        from smnet.serve.run import serve as run
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in ("fastapi", "starlette", "uvicorn", "prometheus_client"):
            raise
        raise missing_extra(module, "serve") from None
    run(
        checkpoints,
        host=host,
        port=port,
        token=token,
        limits=limits,
        workers=workers,
        batch=batch,
        wait=wait / 1000,
        views=parse_views(views),
        device=device,
        backend=backend,
        drain=drain,
        report=report,
        say=lambda line: typer.echo(line, err=True),
    )
