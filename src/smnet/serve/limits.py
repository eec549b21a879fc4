"""What a request may take."""

from __future__ import annotations

from dataclasses import dataclass

from smnet.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        requests: accepted and not yet answered; more are refused at once.
        upload: bytes of a request.
        files: videos of a request.
        idle: seconds between two pieces of a body.
        body: seconds for a whole body.
        length: seconds of a video, by its header.
        frames: of a video, by its header.
        pixels: of a frame.
        memory: bytes that decoding may add to a worker process.
        timeout: seconds for decoding a video.
        timeline: seconds for a timeline.
        cameras: streams at a time.
        addresses: prefixes of the addresses that may be fetched.
    """

    requests: int = 32
    upload: int = 100 << 20
    files: int = 16
    idle: float = 10.0
    body: float = 120.0
    length: float = 600.0
    frames: int = 100_000
    pixels: int = 4096 * 2304
    memory: int = 2 << 30
    timeout: float = 60.0
    timeline: float = 600.0
    cameras: int = 4
    addresses: tuple[str, ...] = ()


def check_address(address: str, prefixes: tuple[str, ...]) -> None:
    """Refuse an address that is not below one of the prefixes.

    Raises:
        UserError: with the reason.
    """
    if not prefixes:
        raise UserError("this server fetches no addresses; upload the video")
    plain = not any(c in address for c in "\\%@ ") and "::" not in address
    outside = not address.startswith(prefixes) or any(
        part in (".", "..") for part in address.split("/")
    )
    if not plain or outside or not address.isprintable():
        raise UserError("this address is not one that the server may fetch; upload the video")


def check_prefixes(prefixes: list[str]) -> tuple[str, ...]:
    """The prefixes of ``--allow-addresses``.

    Raises:
        UserError: a prefix that does not name a host and end in a slash.
    """
    for prefix in prefixes:
        scheme, separator, rest = prefix.partition("://")
        if not (scheme and separator and "/" in rest[1:] and prefix.endswith("/")):
            raise UserError(
                f"--allow-addresses {prefix}: give scheme, host and folder with a slash at the end,"
                " such as https://videos.example.org/"
            )
        if scheme not in ("http", "https", "s3", "gs", "az"):
            raise UserError(f"--allow-addresses {prefix}: {scheme}:// is not fetched by a server")
    return tuple(prefixes)
