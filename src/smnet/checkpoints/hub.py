"""Checkpoints on the Hugging Face hub: ``hf://owner/name`` where a checkpoint's path may stand.

A repository holds our one file, as ``model.safetensors``, and a model card made from it. The
library's ``PyTorchModelHubMixin`` is not used: it keeps the constructor's arguments in a second
file, ``config.json``, and writes the tensors without the header, so class names, sampling and
metrics would be lost or stand in two places that can disagree; and it has to be a base class of
every model, which would tie the models to the hub. Its two calls, upload and download, are used
directly.

Without a network the library tries again for 23 seconds and more. Here the hub must answer a first
question within :data:`PATIENCE`; only then is anything sent or fetched.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from smnet.errors import UserError

SCHEME = "hf://"
FILE = "model.safetensors"
CARD = "README.md"
PATIENCE = 2.0
"""Seconds the hub has for its first answer; the environment's HF_HUB_ETAG_TIMEOUT overrides it."""
MAX_BYTES = 4 * 2**30

T = TypeVar("T")
_log = logging.getLogger(__name__)


def is_address(source: str | os.PathLike[str]) -> bool:
    """Whether ``source`` names a checkpoint on the hub."""
    return isinstance(source, str) and source.startswith(SCHEME)


def pull(address: str) -> Path:
    """The checkpoint file of a repository, downloaded once and then kept in the hub's cache.

    Args:
        address: ``hf://owner/name``, or ``hf://owner/name@revision`` (a branch, tag or commit).

    Where the hub cannot be reached, or HF_HUB_OFFLINE is set, the copy in the cache serves; unless
    that was asked for, a warning says so.

    Raises:
        UserError: no such repository or file, no right to it, or neither network nor cached copy.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    repo, revision = _parse(address)
    if _offline():
        return _cached(address, repo, revision, "HF_HUB_OFFLINE is set")
    url = hf_hub_url(repo, FILE, revision=revision)
    try:
        about = _answer(lambda: get_hf_file_metadata(url, timeout=_patience()))
    except HfHubHTTPError as error:
        raise UserError(f"{address}: {_refusal(error)}") from None
    except _NoAnswer as error:
        path = _cached(address, repo, revision, str(error))
        _log.warning("%s: %s; the copy in the cache is used", address, error)
        return path
    if about.size is not None and about.size > MAX_BYTES:
        raise UserError(
            f"{address}: {FILE} has {about.size / 2**30:.0f} GiB; no checkpoint of ours"
        )
    try:
        return Path(hf_hub_download(repo, FILE, revision=revision))
    except Exception as error:  # of the library's transports, which differ by its version
        raise UserError(f"{address}: the download broke off ({_first_line(error)})") from None


def push(checkpoint: Path, card: str, repo: str, *, private: bool = False) -> str:
    """Upload a checkpoint, in one commit with its model card.

    The repository is made if need be. A model card that is there already is left as it is.

    Args:
        checkpoint: the file.
        card: the text of the model card.
        repo: ``owner/name``, with or without ``hf://``.
        private: of a repository that is made.

    Returns:
        The repository's page.

    Raises:
        UserError: no token, no network, no right to write, or a bad name.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    repo, revision = _parse(repo)
    if revision is not None:
        raise UserError(f"{repo}@{revision}: a push goes to the main branch; leave @{revision} out")
    if _offline():
        raise UserError("cannot push: HF_HUB_OFFLINE is set")
    if get_token() is None:
        raise UserError(
            "cannot push: no token of the hub; set HF_TOKEN, or log in with: hf auth login"
        )
    hub = HfApi(library_name="smnet")
    try:
        _answer(hub.whoami)
        page = str(hub.create_repo(repo, private=private, exist_ok=True))
        files = [CommitOperationAdd(FILE, str(checkpoint))]
        if not hub.file_exists(repo, CARD):
            files.append(CommitOperationAdd(CARD, card.encode()))
        hub.create_commit(repo, files, commit_message=f"Upload {FILE}")
    except HfHubHTTPError as error:
        raise UserError(f"cannot push to {repo}: {_refusal(error)}") from None
    except Exception as error:
        raise UserError(f"cannot push to {repo}: {_first_line(error)}") from None
    return page


class _NoAnswer(Exception):
    """The hub was not reached."""


def _answer(ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises of the hub's refusals; :class:`_NoAnswer` for all else.

    The call runs in a thread of its own, as no timeout of it covers the look-up of the host.
    """
    from huggingface_hub.errors import HfHubHTTPError

    values: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            values.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_patience())
    if values:
        return values[0]
    if not errors:
        raise _NoAnswer(f"the hub did not answer within {_patience():g} s (is there a network?)")
    if isinstance(errors[0], HfHubHTTPError):
        raise errors[0]
    raise _NoAnswer(f"the hub cannot be reached ({_first_line(errors[0])})")


def _cached(address: str, repo: str, revision: str | None, why: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, FILE, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise UserError(
            f"{address}: {why}, and there is no copy of it in the cache; fetch it where there is a"
            " network, and give the file's path"
        ) from None


def _parse(address: str) -> tuple[str, str | None]:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repo, _, revision = address.removeprefix(SCHEME).partition("@")
    try:
        validate_repo_id(repo)
    except HFValidationError:
        repo = ""
    if repo.count("/") != 1 or (revision and not re.fullmatch(r"[\w./-]+", revision, re.ASCII)):
        raise UserError(f"{address}: a repository of the hub is written {SCHEME}owner/name")
    return repo, revision or None


def _refusal(error: Exception) -> str:
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return "access to this repository must be asked for on its page"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository, or a private one that your token (HF_TOKEN) does not open"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, EntryNotFoundError):
        return f"the repository has no {FILE}: it holds no checkpoint of ours"
    return f"the hub refused ({_first_line(error)})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


def _offline() -> bool:
    from huggingface_hub import constants

    given = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return bool(constants.HF_HUB_OFFLINE) or given in {"1", "ON", "YES", "TRUE"}


def _patience() -> float:
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return float(given) if re.fullmatch(r"\d+(?:\.\d+)?", given) else PATIENCE
