"""Fetching folders from the Hub and pushing them to it, with one sentence for each kind of failure.

``huggingface_hub`` does the transfer and keeps the cache; its switches (``HF_ENDPOINT``, ``HF_HUB_OFFLINE``,
``HF_HOME``, ``HF_TOKEN``) work as everywhere else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spatialavatar import __version__
from spatialavatar.errors import MissingAssetError, OutputError
from spatialavatar.hub.constants import LIBRARY
from spatialavatar.hub.integrity import MANIFEST_NAME, verify

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Token = str | bool | None
"""A Hub token; True takes the one that ``hf auth login`` stored, None takes it where there is one, False takes none."""


def hub_api(token: Token = None) -> HfApi:
    """A client of the Hub that ``HF_ENDPOINT`` names, huggingface.co by default."""
    from huggingface_hub import HfApi

    return HfApi(
        endpoint=os.environ.get("HF_ENDPOINT"),
        token=token,
        library_name=LIBRARY,
        library_version=__version__,
    )


def hub_errors() -> tuple[type[Exception], ...]:
    """What ``huggingface_hub`` raises: OSErrors of its own, a ValueError for a malformed id, and its HTTP client's."""
    from huggingface_hub import errors

    return OSError, ValueError, errors.HTTPError


def fetch(
    repo_or_folder: str | Path,
    *,
    revision: str | None = None,
    token: Token = None,
    local_files_only: bool = False,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    files: Sequence[str] | None = None,
) -> Path:
    """A folder as it is, or a repository's snapshot from the cache or the Hub, checked against its manifest.

    Args:
        repo_or_folder: the path of a folder, or ``org/name``.
        revision: a branch, a tag or, to get the same files every time, a commit. Ignored for a folder.
        token: for private and gated repositories.
        local_files_only: use the cache and fail where it is incomplete; no request is sent.
        cache_dir: folder of the cache; by default that of huggingface_hub.
        force_download: fetch files again that are in the cache.
        files: patterns of the files to fetch; all by default.

    Raises:
        MissingAssetError: it is neither a folder nor can it be fetched; the message contains the reason and what to do.
        FormatError: a file is not the one that the repository's manifest lists.
    """
    folder = Path(repo_or_folder)
    if folder.is_dir():
        return folder
    repo_id = folder.as_posix()
    try:
        api = hub_api(token)
        folder = Path(
            api.snapshot_download(
                repo_id,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                force_download=force_download,
                allow_patterns=None if files is None else [*files, MANIFEST_NAME],
            )
        )
    except ImportError as error:
        raise MissingAssetError(
            f"{repo_id} is not a folder, and to fetch it huggingface_hub must be installed."
        ) from error
    except hub_errors() as error:
        raise MissingAssetError(_why_not_fetched(error, repo_id, revision)) from error
    verify(folder, repo_id, files)
    return folder


def push(
    folder: Path, repo_id: str, *, private: bool | None = None, token: Token = None, message: str = "Upload"
) -> str:
    """Create the model repository where it does not exist, and commit the folder's files to it.

    Args:
        folder: the folder to upload.
        repo_id: ``org/name`` or ``name`` (then under the token's own account).
        private: True: only to a private repository; None leaves it to the account's setting.
        token: one that may write; by default the stored one.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        OutputError: it cannot be pushed; the message contains the reason and what to do.
    """
    try:
        api = hub_api(token)
        full_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and not api.model_info(full_id).private:
            raise OutputError(f"{full_id} is there already and is public; pass private=False if that is meant.")
        commit = api.upload_folder(repo_id=full_id, folder_path=folder, commit_message=message)
    except ImportError as error:
        raise OutputError("To push to the Hub, huggingface_hub must be installed.") from error
    except OutputError:
        raise
    except hub_errors() as error:
        raise OutputError(_why_not_pushed(error, repo_id)) from error
    return commit.commit_url


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error of the Hub, if there is one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _why_not_fetched(error: Exception, repo_id: str, revision: str | None) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return f"{repo_id} is neither a folder nor a Hub id of the form org/name; correct it."
    if isinstance(error, errors.GatedRepoError):
        return f"{repo_id} is gated; ask for access on its page on the Hub, then run 'hf auth login' or pass token=."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo_id} has no revision {revision}; look up its branches, tags and commits on the Hub."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"There is no folder and no Hub repository called {repo_id}, or it is private; check the name, or log in "
            "with 'hf auth login' or pass token=."
        )
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        at = f" at {revision}" if revision else ""
        return (
            f"{repo_id} is neither a folder nor whole in the cache{at}, and the Hub is out of reach or switched off; "
            f"fetch it once while online with 'hf download {repo_id}'."
        )
    if "Consistency check failed" in str(error):
        return f"A file of {repo_id} arrived cut short; try again, the parts that did arrive are kept."
    status = status_of(error)
    reason = f"the Hub answers {status}" if status else " ".join(str(error).split()) or type(error).__name__
    return f"{repo_id} cannot be fetched ({reason}); check the connection and try again."


def _why_not_pushed(error: Exception, repo_id: str) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return f"{repo_id} is not a Hub id of the form org/name; correct it."
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo_id} cannot be pushed while HF_HUB_OFFLINE is set; unset it."
    status = status_of(error)
    if status == 401 or isinstance(error, errors.LocalTokenNotFoundError):
        return f"To push to {repo_id} you must be logged in; run 'hf auth login' or pass token=."
    if status == 403:
        return f"Your token may not write to {repo_id}; take one with write access to it."
    reason = f"the Hub answers {status}" if status else " ".join(str(error).split()) or type(error).__name__
    return f"{repo_id} cannot be pushed ({reason}); check the connection and try again."
