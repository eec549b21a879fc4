"""Checkpoints on the Hugging Face hub: ``hf://owner/name`` in place of a checkpoint's path.

A repository holds our one file, as ``model.safetensors``, and a model card. The library's
``PyTorchModelHubMixin`` would drop the header of the file.

Without a network the library retries for some 24 seconds. So the hub is asked one question first,
with a time limit, and the library transfers files only if it answers.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, TypeVar

from smnet.errors import UserError

SCHEME = "hf://"
FILE = "model.safetensors"
CARD = "README.md"
TIME_LIMIT = 2.0
"""Seconds for the hub's first answer; HF_HUB_ETAG_TIMEOUT overrides it."""
MAX_BYTES = 4 * 2**30
"""Largest file that is downloaded."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


def is_address(source: str | os.PathLike[str]) -> bool:
    """Whether ``source`` names a checkpoint on the hub."""
    return isinstance(source, str) and source.startswith(SCHEME)


def pull(address: str) -> Path:
    """The checkpoint file of a repository, downloaded once and kept in the library's cache.

    Without a network, or with HF_HUB_OFFLINE set, the cached file is used. Without a network a
    warning is logged.

    Args:
        address: ``hf://owner/name``, or ``hf://owner/name@revision`` (a branch, tag or commit).

    Raises:
        UserError: no such repository or file, no access, or neither a network nor a cached file.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    repo, revision = _parse(address)
    if _offline():
        return _cached(address, repo, revision, "HF_HUB_OFFLINE is set")
    url = hf_hub_url(repo, FILE, revision=revision)
    try:
        size = _answer(lambda: get_hf_file_metadata(url, timeout=_time_limit())).size
        if size is not None and size > MAX_BYTES:
            raise UserError(
                f"{address}: {FILE} has {size / 2**30:.0f} GiB, over the limit of 4 GiB"
            )
        return Path(hf_hub_download(repo, FILE, revision=revision))
    except UserError:
        raise
    except HfHubHTTPError as error:
        raise UserError(f"{address}: {_refusal(error)}") from None
    except _NoAnswer as error:
        path = _cached(address, repo, revision, str(error))
        _log.warning("%s: %s; the cached file is used", address, error)
        return path
    except Exception as error:  # the library's transports raise their own
        raise UserError(f"{address}: the download failed ({_first_line(error)})") from None


def push(
    checkpoint: Path,
    card: str,
    repo: str,
    *,
    private: bool = False,
    more: Mapping[str, Path] | None = None,
) -> str:
    """Upload a checkpoint and the text of its model card in one commit.

    The repository, ``owner/name`` with or without ``hf://``, is created if necessary. An existing
    model card is kept. Returns the address of the repository's page.

    Args:
        checkpoint: the file.
        card: Markdown.
        repo: the repository.
        private: make a new repository private.
        more: further files by their place in the repository.

    Raises:
        UserError: no token, no network, no write access, or a wrong name.
    """
    return _upload({FILE: checkpoint, **(more or {})}, card, repo, "model", private)


def push_site(folder: Path, card: str, repo: str, *, private: bool = False) -> str:
    """Upload a folder as a static space; see :func:`push`.

    Raises:
        UserError: see :func:`push`.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    files = {name: path for name, path in files.items() if path.is_file()}
    return _upload(files, card, repo, "space", private)


def _upload(
    files: Mapping[str, Path], card: str, repo: str, kind: Literal["model", "space"], private: bool
) -> str:
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
    of: dict[str, Any] = {} if kind == "model" else {"repo_type": kind}
    sdk: dict[str, Any] = {} if kind == "model" else {"space_sdk": "static"}
    try:
        _answer(hub.whoami)
        # The hub itself writes a card for a new space.
        known = hub.repo_exists(repo, **of) if kind == "space" else True
        page = str(hub.create_repo(repo, private=private, exist_ok=True, **of, **sdk))
        added = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        if not (known and hub.file_exists(repo, CARD, **of)):
            added.append(CommitOperationAdd(CARD, card.encode()))
        message = f"Upload {FILE}" if kind == "model" else "Upload the page"
        hub.create_commit(repo, added, commit_message=message, **of)
    except HfHubHTTPError as error:
        raise UserError(f"cannot push to {repo}: {_refusal(error)}") from None
    except Exception as error:
        raise UserError(f"cannot push to {repo}: {_first_line(error)}") from None
    return page


class _NoAnswer(Exception):
    """The hub was not reached."""


def _answer(ask: Callable[[], T]) -> T:
    """The hub's answer to one question, within the time limit; a refusal is an HfHubHTTPError.

    It is asked in a thread, because no timeout of the library covers the look-up of the host.
    """
    from huggingface_hub.errors import HfHubHTTPError

    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # an executor's would be waited for at exit
    try:
        return future.result(_time_limit())
    except HfHubHTTPError:
        raise
    except TimeoutError:
        reason = f"the hub did not answer within {_time_limit():g} s (is there a network?)"
        raise _NoAnswer(reason) from None
    except Exception as error:
        raise _NoAnswer(f"the hub cannot be reached ({_first_line(error)})") from None


def _cached(address: str, repo: str, revision: str | None, why: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, FILE, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise UserError(
            f"{address}: {why}, and it is not in the cache; download it where there is a network,"
            " and give the file's path"
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
        raise UserError(f"{address}: write a repository of the hub as {SCHEME}owner/name")
    return repo, revision or None


def _refusal(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "this repository is gated; ask for access on its page"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one to which your token (HF_TOKEN) has no access"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, errors.EntryNotFoundError):
        return f"the repository has no {FILE}, so it holds no checkpoint of smnet"
    return f"the hub refused ({_first_line(error)})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


def _offline() -> bool:
    from huggingface_hub import constants

    # The library reads the variable once, when it is imported.
    given = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return bool(constants.HF_HUB_OFFLINE) or given in {"1", "ON", "YES", "TRUE"}


def _time_limit() -> float:
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return float(given) if re.fullmatch(r"\d+(?:\.\d+)?", given) else TIME_LIMIT
