"""The answers of the server; also their description in OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ModelInfo(BaseModel):
    """A model that is served."""

    name: str = Field(examples=["mine"])
    version: str = Field(description="Of its file's SHA-256.", examples=["3f2a90c1d4be"])
    family: str = Field(examples=["smnet_resnet50"])
    classes: list[str] = Field(examples=[["falling", "rising"]])
    several: bool = Field(description="Whether a video may have several labels.")
    segments: int = Field(examples=[8])
    size: int = Field(description="Side of the crop, pixels.", examples=[224])
    steps: bool = Field(description="Whether it follows a camera frame by frame.")
    features: bool = Field(description="Whether /v1/embed and /v1/explain take it.")


class Models(BaseModel):
    """What is served."""

    models: list[ModelInfo]
    version: str = Field(description="Of smnet.", examples=["0.1.0"])
    addresses: bool = Field(description="Whether addresses may be given.")
    upload: int = Field(description="Most bytes of a request.", examples=[104857600])
    report: bool = Field(description="Whether /v1/report has the report of an evaluation.")


class Report(BaseModel):
    path: str = Field(description="Valid for a minute.", examples=["/report/Vt3nQ"])


class Named(BaseModel):
    """A model, in an answer."""

    name: str = Field(examples=["mine"])
    version: str = Field(examples=["3f2a90c1d4be"])


class Timing(BaseModel):
    """Seconds."""

    upload: float = Field(description="Receiving the request.", examples=[0.012])
    decode: float = Field(description="Decoding, summed over the videos.", examples=[0.031])
    total: float = Field(description="From the first byte to the answer.", examples=[0.094])


class Score(BaseModel):
    label: str = Field(examples=["rising"])
    score: float = Field(examples=[0.93])


class Predicted(BaseModel):
    """The labels of one video, or why there are none."""

    file: str = Field(examples=["clip.mp4"])
    label: str = Field(default="", examples=["rising"])
    score: float = Field(default=0.0, examples=[0.93])
    answer: list[str] = Field(default=[], description="Classes that happen.", examples=[["rising"]])
    unknown: bool = Field(
        default=False, description="Whether the best score is below the threshold."
    )
    top: list[Score] = Field(default=[], description="Best first.")
    damage: int = Field(default=0, description="Lost packets and frames.")
    error: str = Field(default="", description="Why there are no labels.")


class Predictions(BaseModel):
    model: Named
    seconds: Timing
    results: list[Predicted]


class Segment(BaseModel):
    start: float = Field(description="Seconds.", examples=[2.25])
    end: float = Field(description="Seconds.", examples=[5.0])
    label: str = Field(examples=["rising"])
    score: float = Field(description="Mean over the segment.", examples=[0.87])


class Timeline(BaseModel):
    model: Named
    seconds: Timing
    file: str = Field(examples=["recording.mp4"])
    duration: float = Field(description="Seconds.", examples=[63.2])
    window: float = Field(description="Seconds.", examples=[2.0])
    every: float = Field(description="Seconds.", examples=[0.5])
    segments: list[Segment]
    times: list[float] = Field(description="Middle of each window, seconds.")
    scores: dict[str, list[float]] = Field(description="Of each class, at these times.")


class Vector(BaseModel):
    file: str = Field(examples=["clip.mp4"])
    vector: list[float] = Field(
        default=[], description="Mean, deviation and direction of the features."
    )
    error: str = ""


class Vectors(BaseModel):
    model: Named
    seconds: Timing
    results: list[Vector]


class Explanation(BaseModel):
    model: Named
    seconds: Timing
    file: str = Field(examples=["clip.mp4"])
    label: str = Field(description="The class that is explained.", examples=["rising"])
    score: float = Field(examples=[0.93])
    logit: float = Field(examples=[4.2])
    constant: float = Field(description="What comes from no frame.", examples=[0.1])
    exact: bool = Field(description="Whether maps and constant sum to the logit.")
    meaning: str = Field(description="What the maps are, in words.")
    curve: list[float] = Field(description="Evidence of each frame.", examples=[[0.4, 1.1]])
    maps: list[list[list[float]]] = Field(description="Of each frame, by row and column.")
    frames: list[str] = Field(description="What the network saw, JPEG as data: addresses.")


class Error(BaseModel):
    error: str = Field(examples=["clip.mp4: is empty (0 bytes)"])


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": text}
    for status, text in {
        400: "No video, or more than the server takes.",
        401: "No token.",
        404: "No such model, or no report.",
        408: "The upload was too slow.",
        413: "The upload is too large.",
        422: "No video could be read.",
        503: "Busy; try again after Retry-After seconds.",
    }.items()
}
"""The answers of a refused request, for OpenAPI."""
