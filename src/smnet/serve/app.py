"""The routes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import numpy as np
from fastapi import (
    Depends,
    FastAPI,
    File,
    Form,
    HTTPException,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from numpy.typing import NDArray
from PIL import Image
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.websockets import WebSocketDisconnect

from smnet import __version__
from smnet.console import printable
from smnet.data.loading.views import Damage
from smnet.errors import UserError
from smnet.inference.sources import Source
from smnet.report.kit import STYLE
from smnet.serve import answers
from smnet.serve.batching import Batcher, Work
from smnet.serve.camera import MOST_BYTES, Camera
from smnet.serve.gate import Gate
from smnet.serve.limits import Limits, check_address
from smnet.serve.metrics import Metrics
from smnet.serve.models import Model
from smnet.serve.workers import Answer, Task, Workers

T = TypeVar("T")

_CAMERA_SILENCE = 30.0  # seconds without a frame, after which a stream is closed
_GONE = 499  # the status that logs have for a client that left

Files = Annotated[list[UploadFile], File(description="Videos.")]
Addresses = Annotated[list[str], Form(description="Addresses, where the server allows them.")]
ModelName = Annotated[str | None, Query(description="Default: the first one of /v1/models.")]
Top = Annotated[int, Query(ge=1, le=10_000, description="Labels per video.")]
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": answers.Error, "description": text}
    for status, text in {
        400: "No video, or more than the server takes.",
        401: "No token.",
        404: "No such model.",
        408: "The upload was too slow.",
        413: "The upload is too large.",
        422: "No video could be read.",
        503: "Busy; try again after Retry-After seconds.",
    }.items()
}


class Service:
    """What the routes share.

    Args:
        models: the networks; the first one is the default.
        limits: of a request.
        workers: decoding processes.
        batch: videos per run of a network.
        wait: seconds to wait for further videos.

    Attributes:
        draining: whether the server is about to end.
    """

    def __init__(
        self,
        models: Sequence[Model],
        limits: Limits,
        workers: int = 1,
        batch: int = 8,
        wait: float = 0.005,
    ) -> None:
        self.models, self.limits, self.metrics = models, limits, Metrics()
        self.folder = Path(tempfile.mkdtemp(prefix="smnet-serve-"))
        self.batchers: list[Batcher] = []
        self.workers = Workers(models, self.batchers, limits, workers, batch)
        for model in models:  # after the workers are forked
            ran = _Ran(self.metrics, model.name)
            self.batchers.append(Batcher(batch, wait, ran))
        self.draining = False
        self.cameras = 0
        self.explaining = asyncio.Semaphore(1)

    def warm_up(self) -> None:
        """Run every network once, so that the first request does not wait for it."""
        for model, batcher in zip(self.models, self.batchers, strict=True):
            views = np.zeros((1, *model.recognizer.plan.shape), np.uint8)
            batcher.submit(model.scores, views).result()

    def close(self) -> None:
        """End the workers and remove the folder."""
        self.workers.close()
        for batcher in self.batchers:
            batcher.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def number(self, name: str | None) -> int:
        """The number of a model; the first one without a name."""
        names = [model.name for model in self.models]
        if name is None:
            return 0
        if name not in names:
            raise HTTPException(404, f"no model {printable(name)!r}; there are: {', '.join(names)}")
        return names.index(name)

    async def read(self, task: Task) -> Answer:
        """Have a video read. If this is cancelled, so is the work."""
        job = self.workers.submit(task)
        try:
            answer = await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            job.stop()
            raise
        self.metrics.reading.observe(answer.read.decoding)
        if answer.read.stage:
            self.metrics.unreadable.inc()
        return answer

    async def compute(self, number: int, work: Work, views: NDArray[np.uint8]) -> NDArray[Any]:
        """The row of a video."""
        rows, problems = await asyncio.wrap_future(self.batchers[number].submit(work, views[None]))
        if problems:
            raise HTTPException(503, problems[0])
        row: NDArray[Any] = rows[0]
        return row


class _Ran:
    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name

    def __call__(self, videos: int, seconds: float) -> None:
        self._metrics.ran(self._name, videos, seconds)


def make_app(service: Service, token: str | None = None) -> Gate:
    """The application behind its gate."""
    app = FastAPI(
        title="smnet serve",
        version=__version__,
        summary="Action recognition in video.",
        docs_url=None,  # these pages load scripts from another site
        redoc_url=None,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if token else [],
    )
    app.add_exception_handler(AnyHTTPException, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UserError, _refused)
    app.add_exception_handler(Exception, _failure)
    gate = Gate(app, service.limits, service.metrics, token)
    _add_pages(app, service)
    _add_answers(app, service)

    @app.websocket("/v1/camera")
    async def camera(socket: WebSocket) -> None:
        await _camera(socket, service, gate)

    return gate


def _add_pages(app: FastAPI, service: Service) -> None:
    def add(path: str, name: str, kind: str, before: str = "") -> None:
        content = before + page_file(name)

        async def send() -> Response:
            return Response(content, media_type=kind)

        app.add_api_route(path, send, include_in_schema=False)

    add("/", "index.html", "text/html")
    add("/page.js", "page.js", "text/javascript")
    add("/style.css", "page.css", "text/css", STYLE)

    @app.get("/healthz", tags=["operation"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], responses={503: ERRORS[503]})
    async def readyz() -> dict[str, str]:
        """Whether requests are taken."""
        if service.draining or not service.workers.alive:
            raise HTTPException(503, "not ready")
        return {"status": "ready"}

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        """Counts and durations, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", tags=["models"])
    async def models() -> answers.Models:
        """The models, and what the server takes."""
        return answers.Models(
            models=[_info(model) for model in service.models],
            version=__version__,
            addresses=bool(service.limits.addresses),
            upload=service.limits.upload,
        )

    @app.post("/v1/predict", tags=["videos"], responses=ERRORS)
    async def predict(
        request: Request,
        files: Files = [],  # noqa: B006, FastAPI copies it
        address: Addresses = [],  # noqa: B006
        model: ModelName = None,
        top: Top = 5,
    ) -> answers.Predictions:
        """Name what happens in videos.

        A video may also be the whole body, with the type ``video/*`` or
        ``application/octet-stream``. A video that cannot be read has an ``error``; the status is
        422 if none can be read.
        """
        number = service.number(model)
        recognizer = service.models[number].recognizer

        async def one(upload: Upload) -> answers.Predicted:
            answer = await service.read(upload.task("views", number))
            upload.seconds = answer.read.decoding
            if answer.read.stage or answer.views is None:
                return answers.Predicted(file=upload.name, error=upload.reason(answer))
            row = await service.compute(number, service.models[number].scores, answer.views)
            source, damage = Source(upload.name, None), Damage(answer.read.damage)
            prediction = recognizer.prediction(source, row, top, damage)
            if prediction.error:
                raise HTTPException(500, prediction.error)
            return answers.Predicted(file=upload.name, **_without_path(prediction.to_dict()))

        async with _uploads(service, request, files, address) as uploads:
            results = await _unless_gone(service, request, _all([one(u) for u in uploads]))
            _some(results)
            return answers.Predictions(
                model=_named(service, number), seconds=_timing(request, uploads), results=results
            )

    @app.post("/v1/embed", tags=["videos"], responses=ERRORS)
    async def embed(
        request: Request,
        files: Files = [],  # noqa: B006
        address: Addresses = [],  # noqa: B006
        model: ModelName = None,
    ) -> answers.Vectors:
        """The vectors of videos, as ``smnet embed`` writes them."""
        number = service.number(model)
        served = service.models[number]
        _needs_features(served)

        async def one(upload: Upload) -> answers.Vector:
            answer = await service.read(upload.task("views", number))
            upload.seconds = answer.read.decoding
            if answer.read.stage or answer.views is None:
                return answers.Vector(file=upload.name, error=upload.reason(answer))
            row = await service.compute(number, served.vectors, answer.views)
            return answers.Vector(file=upload.name, vector=row.tolist())

        async with _uploads(service, request, files, address) as uploads:
            results = await _unless_gone(service, request, _all([one(u) for u in uploads]))
            _some(results)
            return answers.Vectors(
                model=_named(service, number), seconds=_timing(request, uploads), results=results
            )

    @app.post("/v1/explain", tags=["videos"], responses=ERRORS)
    async def explain(
        request: Request,
        files: Files = [],  # noqa: B006
        address: Addresses = [],  # noqa: B006
        model: ModelName = None,
        label: Annotated[str | None, Query(description="Default: the best class.")] = None,
    ) -> answers.Explanation:
        """Why one video gets its label: the evidence of each frame and place."""
        number = service.number(model)
        served = service.models[number]
        _needs_features(served)
        if served.recognizer.plan.views > 1:
            raise HTTPException(400, "one view is explained; serve with --views 1x1")

        async def one(upload: Upload) -> answers.Explanation:
            answer = await service.read(upload.task("views", number))
            upload.seconds = answer.read.decoding
            if answer.read.stage or answer.views is None:
                raise HTTPException(422, upload.reason(answer))
            async with service.explaining:
                found = await asyncio.to_thread(served.evidence, answer.views, upload.name)
            name = label if label is not None else found.label
            k = found.index(name)
            return answers.Explanation(
                model=_named(service, number),
                seconds=_timing(request, [upload]),
                file=upload.name,
                label=name,
                score=float(found.scores[k]),
                logit=float(found.logits[k]),
                constant=float(found.constant[k]),
                exact=found.exact,
                meaning=found.meaning,
                curve=found.curve(name).tolist(),
                maps=found.maps[k].tolist(),
                frames=[jpeg_address(frame) for frame in found.frames],
            )

        async with _uploads(service, request, files, address) as uploads:
            return await _unless_gone(service, request, one(_only(uploads)))

    @app.post("/v1/timeline", tags=["videos"], responses=ERRORS)
    async def timeline(
        request: Request,
        files: Files = [],  # noqa: B006
        address: Addresses = [],  # noqa: B006
        model: ModelName = None,
    ) -> answers.Timeline:
        """When actions happen in one recording, as ``smnet timeline`` finds them."""
        number = service.number(model)
        async with _uploads(service, request, files, address) as uploads:
            upload = _only(uploads)
            work = service.read(upload.task("timeline", number))
            answer = await _unless_gone(service, request, work)
            if answer.read.stage:
                raise HTTPException(422, upload.reason(answer))
            values = {**answer.timeline, "file": upload.name}
            return answers.Timeline(
                model=_named(service, number), seconds=_timing(request, uploads), **values
            )


class Upload:
    """A video of a request: the name that the client gave, and where it lies.

    Attributes:
        seconds: that decoding took.
    """

    def __init__(self, name: str, path: str, folder: Path) -> None:
        self.name, self.path, self._folder, self.seconds = name, path, folder, 0.0

    def task(self, kind: Any, model: int) -> Task:
        return Task(kind, model, self.path, str(self._folder))

    def reason(self, answer: Answer) -> str:
        """Why it was not read, with the client's name for it."""
        reason = answer.read.reason.replace(self.path, self.name)
        reason = reason.replace(str(self._folder), "")
        return reason if self.name in reason else f"{self.name}: {reason}"


@asynccontextmanager
async def _uploads(
    service: Service, request: Request, files: Sequence[UploadFile], addresses: Sequence[str]
) -> AsyncIterator[list[Upload]]:
    """The videos of a request, in a folder that is removed after the answer."""
    limits = service.limits
    count = len(files) + len(addresses)
    if count > limits.files:
        raise HTTPException(400, f"{count} videos; this server takes {limits.files} per request")
    folder = Path(tempfile.mkdtemp(dir=service.folder))
    try:
        uploads = []
        for file in files:
            path = folder / secrets.token_hex(8)
            with path.open("wb") as target:
                await asyncio.to_thread(shutil.copyfileobj, file.file, target, 1 << 20)
            uploads.append(Upload(shown_name(file.filename), str(path), folder))
        for address in addresses:
            try:
                check_address(address, limits.addresses)
            except UserError as error:
                raise HTTPException(400, str(error)) from None
            uploads.append(Upload(shown_name(address.partition("?")[0]), address, folder))
        kind = request.headers.get("content-type", "")
        if not uploads and kind.startswith(("video/", "application/octet-stream")):
            path = folder / secrets.token_hex(8)
            with path.open("wb") as target:
                async for block in request.stream():
                    target.write(block)
            uploads.append(Upload("upload", str(path), folder))
        if not uploads:
            raise HTTPException(400, "no video: send one or more as the form field 'files'")
        request.scope["received"] = time.monotonic()
        yield uploads
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def shown_name(given: str | None) -> str:
    """The last part of a client's name for a file, for messages."""
    name = printable((given or "").replace("\\", "/").rpartition("/")[2])[:100]
    return name if name.strip(". ") else "upload"


async def _all(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results; the first failure cancels the rest."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _unless_gone(service: Service, request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of work, which is cancelled when the client leaves."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_leaves(request))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            service.metrics.gone.inc()
            raise HTTPException(_GONE, "the client has left")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _only(uploads: Sequence[Upload]) -> Upload:
    if len(uploads) > 1:
        raise HTTPException(400, f"{len(uploads)} videos; send one at a time")
    return uploads[0]


def _needs_features(model: Model) -> None:
    if not model.has_features:
        raise HTTPException(
            400, f"{model.name} has no features; serve the checkpoint, or export with --features"
        )


def jpeg_address(frame: NDArray[np.uint8]) -> str:
    """A frame (H, W, 3) as a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _some(results: Sequence[Any]) -> None:
    """Refuse a request of whose videos none could be read."""
    errors = [result.error for result in results]
    if all(errors):
        raise HTTPException(422, "; ".join(errors))


def _without_path(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "path"}


def _named(service: Service, number: int) -> answers.Named:
    model = service.models[number]
    return answers.Named(name=model.name, version=model.version)


def _timing(request: Request, uploads: Sequence[Upload]) -> answers.Timing:
    began, received = request.scope["began"], request.scope["received"]
    return answers.Timing(
        upload=round(received - began, 4),
        decode=round(sum(upload.seconds for upload in uploads), 4),
        total=round(time.monotonic() - began, 4),
    )


def _info(model: Model) -> answers.ModelInfo:
    spec = model.backend.spec
    return answers.ModelInfo(
        name=model.name,
        version=model.version,
        family=spec.name,
        classes=list(model.recognizer.classes),
        several=spec.several,
        segments=spec.num_segments,
        size=spec.input_size,
        steps=model.steps,
        features=model.has_features,
    )


async def _camera(socket: WebSocket, service: Service, gate: Gate) -> None:
    await socket.accept()
    try:
        async with asyncio.timeout(_CAMERA_SILENCE):
            first = json.loads(await socket.receive_text())
        if not isinstance(first, dict) or not gate.has_token(str(first.get("token", ""))):
            await _hang_up(socket, "give the token")
        if service.cameras >= service.limits.cameras:
            await _hang_up(socket, f"busy: {service.cameras} cameras are open", 1013)
        number = service.number(first.get("model"))
        stream = Camera(service.models[number], service.batchers[number])
        service.cameras += 1
        try:
            service.metrics.cameras.set(service.cameras)
            await socket.send_json({"rate": stream.rate, "mode": stream.mode, "most": MOST_BYTES})
            while True:
                async with asyncio.timeout(_CAMERA_SILENCE):
                    message = await socket.receive_bytes()
                await socket.send_json(await asyncio.to_thread(stream.take, message))
        finally:
            service.cameras -= 1
            service.metrics.cameras.set(service.cameras)
    except WebSocketDisconnect:
        return
    except HTTPException as error:
        await socket.close(1008, str(error.detail)[:100])
    except TimeoutError:
        await socket.close(1008, "silent for too long")
    except (UserError, KeyError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, UserError) else "not a message of the camera"
        await socket.close(1003, reason[:100])


async def _hang_up(socket: WebSocket, reason: str, code: int = 1008) -> NoReturn:
    await socket.close(code, reason)
    raise WebSocketDisconnect(code)


@cache
def page_file(name: str) -> str:
    """A file of the page."""
    return (package_files("smnet.serve") / "page" / name).read_text(encoding="utf-8")


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _failure(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed; its log says why"}, 500)
