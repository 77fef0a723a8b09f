"""``from_pretrained``, ``save_pretrained`` and ``push_to_hub``, the same for the model and for an avatar."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from spatialavatar.files import make_folder, write_text
from spatialavatar.hub.constants import CARD_FILE
from spatialavatar.hub.transfer import Token, fetch, push

if TYPE_CHECKING:
    from spatialavatar.head import HeadModel

_T = TypeVar("_T", bound="Pretrained")


class Pretrained(ABC):
    """Base of objects that are stored as one folder on disk or one repository on the Hub, with a card.

    Loading is strict: a missing or an unknown key in a file is an error, not a warning.
    """

    _files: ClassVar[Sequence[str] | None] = None
    """Patterns of the files that loading needs; None for all."""
    _private: ClassVar[bool | None] = None
    """Whether a new repository is private; None leaves it to the account's setting."""

    @classmethod
    def from_pretrained(
        cls: type[_T],
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: Token = None,
        local_files_only: bool = False,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        head: HeadModel | None = None,
    ) -> _T:
        """Load from a folder or from the Hub.

        Args:
            repo_or_folder: the path of a folder, for which nothing is fetched; or ``org/name`` on the Hub.
            revision: branch, tag or commit; pin a commit to get the same files every time.
            token: for private and gated repositories; by default the one that ``hf auth login`` stored.
            local_files_only: use the cache and fail where it is incomplete.
            cache_dir: folder of the cache; by default that of huggingface_hub.
            force_download: fetch files again that are in the cache.
            head: a head model to use instead of the one that the files name.

        Raises:
            MissingAssetError: there is nothing by that name, or it cannot be fetched.
            FormatError: a file is damaged, of an unsupported version, or differs from the repository's manifest.
        """
        folder = fetch(
            repo_or_folder,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            cache_dir=cache_dir,
            force_download=force_download,
            files=cls._files,
        )
        return cls._read_folder(folder, head)

    def save_pretrained(self, folder: str | Path, *, repo_id: str | None = None) -> Path:
        """Write the files that :meth:`from_pretrained` reads into ``folder``; an existing card is kept.

        Args:
            folder: created where it is missing.
            repo_id: the repository that the card's example loads.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = make_folder(folder)
        self._write_folder(folder)
        if not (folder / CARD_FILE).is_file():
            write_text(folder / CARD_FILE, self.card(repo_id))
        return folder

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: Token = None,
        message: str = "Upload with SpatialAvatar",
        beside: Callable[[Path], object] | None = None,
    ) -> str:
        """Upload it to a model repository, which is created where it does not exist.

        Args:
            repo_id: ``org/name``, or ``name`` under the token's own account.
            private: by default an avatar goes to a private repository only, a model to what the account has set.
            token: a token with write access; by default the one that ``hf auth login`` stored.
            message: of the commit.
            beside: called with the folder before the upload, to add files to it.

        Returns:
            The address of the commit.

        Raises:
            OutputError: it cannot be pushed; the message contains the reason.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id=repo_id)
            if beside is not None:
                beside(Path(folder))
            private = self._private if private is None else private
            return push(Path(folder), repo_id, private=private, token=token, message=message)

    @abstractmethod
    def card(self, repo_id: str | None = None) -> str:
        """The text of the card, front matter included; its example loads ``repo_id``."""

    @classmethod
    @abstractmethod
    def _read_folder(cls: type[_T], folder: Path, head: HeadModel | None) -> _T: ...

    @abstractmethod
    def _write_folder(self, folder: Path) -> None: ...
