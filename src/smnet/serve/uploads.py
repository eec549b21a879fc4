"""The videos of a request, in a folder that is removed after the answer."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, File, Form, HTTPException, Query, Request, UploadFile

from smnet.console import printable
from smnet.errors import UserError
from smnet.serve import answers
from smnet.serve.limits import check_address
from smnet.serve.service import Service, Unreadable, Upload

R = TypeVar("R")
_GONE = 499  # the status that logs have for a client that left

Files = Annotated[list[UploadFile], File(description="Videos.")]
Addresses = Annotated[list[str], Form(description="Addresses, where the server allows them.")]
ModelName = Annotated[str | None, Query(description="Default: the first one of /v1/models.")]


@dataclass(frozen=True)
class Asked:
    """What the requests with videos have in common."""

    request: Request
    files: Sequence[UploadFile]
    addresses: Sequence[str]
    model: str | None

    async def each(
        self,
        service: Service,
        number: int,
        work: Callable[[Upload], Awaitable[R]],
        broken: Callable[..., R],
    ) -> dict[str, Any]:
        """The answers for all videos, with the model and the times.

        Args:
            service: reads and scores.
            number: of the model.
            work: makes the answer for a video.
            broken: makes the answer for one that cannot be read, of ``file`` and ``error``.
        """
        errors: dict[int, str] = {}

        async def one(place: int, upload: Upload) -> R:
            try:
                return await work(upload)
            except Unreadable as error:
                errors[place] = str(error)
                return broken(file=upload.name, error=str(error))

        async with received(service, self.request, self.files, self.addresses) as uploads:
            works = [one(place, upload) for place, upload in enumerate(uploads)]
            results = await self._unless_gone(service, _all(works))
            if len(errors) == len(uploads):
                raise HTTPException(422, "; ".join(errors[place] for place in sorted(errors)))
            return {"results": results, **self._about(service, number, uploads)}

    async def single(
        self, service: Service, number: int, work: Callable[[Upload], Coroutine[Any, Any, Any]]
    ) -> dict[str, Any]:
        """The values that ``work`` gives for the only video, with the model and the times."""
        async with received(service, self.request, self.files, self.addresses) as uploads:
            if len(uploads) > 1:
                raise HTTPException(400, f"{len(uploads)} videos; send one at a time")
            try:
                values = await self._unless_gone(service, work(uploads[0]))
            except Unreadable as error:
                raise HTTPException(422, str(error)) from None
            about = self._about(service, number, uploads)
            return {**values, "file": uploads[0].name, **about}

    def _about(self, service: Service, number: int, uploads: Sequence[Upload]) -> dict[str, Any]:
        model, scope = service.models[number], self.request.scope
        seconds = answers.Timing(
            upload=round(scope["received"] - scope["began"], 4),
            decode=round(sum(upload.seconds for upload in uploads), 4),
            total=round(time.monotonic() - scope["began"], 4),
        )
        return {
            "model": answers.Named(name=model.name, version=model.version),
            "seconds": seconds,
        }

    async def _unless_gone(self, service: Service, work: Coroutine[Any, Any, R]) -> R:
        """The result of work, which is cancelled when the client leaves."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_leaves(self.request))
        try:
            await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                service.metrics.gone.inc()
                raise HTTPException(_GONE, "the client has left")
            return task.result()
        finally:
            task.cancel()
            gone.cancel()


def asked(
    request: Request,
    files: Files = [],  # noqa: B006, FastAPI copies it
    address: Addresses = [],  # noqa: B006
    model: ModelName = None,
) -> Asked:
    return Asked(request, files, address, model)


Videos = Annotated[Asked, Depends(asked)]
"""The parameter of a route that takes videos."""


@asynccontextmanager
async def received(
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


async def _all(works: Sequence[Coroutine[Any, Any, R]]) -> list[R]:
    """All results; the first failure cancels the rest."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
