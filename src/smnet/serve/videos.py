"""The routes that take videos: predict, embed, explain, timeline."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query
from numpy.typing import NDArray
from PIL import Image

from smnet.data.loading.views import Damage
from smnet.inference.sources import Source
from smnet.serve import answers
from smnet.serve.models import Model
from smnet.serve.service import Service, Upload
from smnet.serve.uploads import Videos

Top = Annotated[int, Query(ge=1, le=10_000, description="Labels per video.")]
Label = Annotated[str | None, Query(description="Default: the best class.")]


def add_videos(app: FastAPI, service: Service) -> None:
    """Add the routes to the application."""

    @app.post("/v1/predict", tags=["videos"], responses=answers.ERRORS)
    async def predict(asked: Videos, top: Top = 5) -> answers.Predictions:
        """Name what happens in videos.

        A video may also be the whole body, with the type ``video/*`` or
        ``application/octet-stream``. A video that cannot be read has an ``error``; the status is
        422 if none can be read.
        """
        number = service.number(asked.model)
        recognizer = service.models[number].recognizer

        async def one(upload: Upload) -> answers.Predicted:
            views, damage = await service.views(upload, number)
            row = await service.compute(number, service.models[number].judged, views)
            source = Source(upload.name, None)
            prediction = recognizer.prediction(source, row[:-1], top, Damage(damage), row[-1])
            if prediction.error:
                raise HTTPException(500, prediction.error)
            values = prediction.to_dict()
            del values["path"]
            return answers.Predicted(file=upload.name, **values)

        return answers.Predictions(**await asked.each(service, number, one, answers.Predicted))

    @app.post("/v1/embed", tags=["videos"], responses=answers.ERRORS)
    async def embed(asked: Videos) -> answers.Vectors:
        """The vectors of videos, as ``smnet embed`` writes them."""
        number = service.number(asked.model)
        served = service.models[number]
        _needs_features(served)

        async def one(upload: Upload) -> answers.Vector:
            views, _ = await service.views(upload, number)
            row = await service.compute(number, served.vectors, views)
            return answers.Vector(file=upload.name, vector=row.tolist())

        return answers.Vectors(**await asked.each(service, number, one, answers.Vector))

    @app.post("/v1/explain", tags=["videos"], responses=answers.ERRORS)
    async def explain(asked: Videos, label: Label = None) -> answers.Explanation:
        """Why one video gets its label: the evidence of each frame and place."""
        number = service.number(asked.model)
        served = service.models[number]
        _needs_features(served)
        if served.recognizer.plan.views > 1:
            raise HTTPException(400, "one view is explained; serve with --views 1x1")

        async def work(upload: Upload) -> dict[str, Any]:
            views, _ = await service.views(upload, number)
            async with service.explaining:
                found = await asyncio.to_thread(served.evidence, views, upload.name)
            name = label if label is not None else found.label
            k = found.index(name)
            return {
                "label": name,
                "score": float(found.scores[k]),
                "logit": float(found.logits[k]),
                "constant": float(found.constant[k]),
                "exact": found.exact,
                "meaning": found.meaning,
                "curve": found.curve(name).tolist(),
                "maps": found.maps[k].tolist(),
                "frames": [jpeg_address(frame) for frame in found.frames],
            }

        return answers.Explanation(**await asked.single(service, number, work))

    @app.post("/v1/timeline", tags=["videos"], responses=answers.ERRORS)
    async def timeline(asked: Videos) -> answers.Timeline:
        """When actions happen in one recording, as ``smnet timeline`` finds them."""
        number = service.number(asked.model)

        async def work(upload: Upload) -> dict[str, Any]:
            answer = await service.read(upload, upload.task("timeline", number))
            return dict(answer.timeline)

        return answers.Timeline(**await asked.single(service, number, work))


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
