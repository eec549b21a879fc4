"""The application: its pages, what it says about itself, and errors."""

from __future__ import annotations

from functools import cache
from importlib.resources import files as package_files

from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as AnyHTTPException

from smnet import __version__
from smnet.errors import UserError
from smnet.report.app import app_script, app_style
from smnet.serve import answers
from smnet.serve.camera import follow
from smnet.serve.gate import REPORT_POLICY, Gate
from smnet.serve.models import Model
from smnet.serve.service import Service
from smnet.serve.videos import add_videos


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
    _add_pages(app)
    _add_report(app, service)
    _add_operation(app, service)
    add_videos(app, service)

    @app.websocket("/v1/camera")
    async def camera(socket: WebSocket) -> None:
        await follow(socket, service, gate.has_token)

    return gate


def _add_pages(app: FastAPI) -> None:
    def add(path: str, content: str, kind: str) -> None:
        async def send() -> Response:
            return Response(content, media_type=kind)

        app.add_api_route(path, send, include_in_schema=False)

    add("/", page_file("index.html"), "text/html")
    add("/page.js", page_file("page.js"), "text/javascript")
    add("/app.js", app_script(), "text/javascript")
    add("/style.css", app_style(), "text/css")


def _add_report(app: FastAPI, service: Service) -> None:
    @app.post("/v1/report", tags=["models"], responses={404: answers.ERRORS[404]})
    async def address() -> answers.Report:
        """The path of the report of an evaluation, valid for a minute."""
        if not service.report:
            raise HTTPException(404, "no report; serve with --report FILE.html")
        return answers.Report(path=f"/report/{service.new_key()}")

    @app.get("/report/{key}", include_in_schema=False)
    async def report(key: str) -> Response:
        if not service.has_key(key):
            raise HTTPException(404, "this address has expired; open the report again")
        policy = {"content-security-policy": REPORT_POLICY}
        return Response(service.report, media_type="text/html", headers=policy)


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", tags=["models"])
    async def models() -> answers.Models:
        """The models, and what the server takes."""
        return answers.Models(
            models=[_info(model) for model in service.models],
            version=__version__,
            addresses=bool(service.limits.addresses),
            upload=service.limits.upload,
            report=bool(service.report),
        )

    @app.get("/healthz", tags=["operation"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], responses={503: answers.ERRORS[503]})
    async def readyz() -> dict[str, str]:
        """Whether requests are taken."""
        if service.draining or not service.workers.alive:
            raise HTTPException(503, "not ready")
        return {"status": "ready"}

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        """Counts and durations, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


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
