"""Shards: tar files of tracked people with WebDataset's names, read by offset.

For a person with the key ``ID10_001`` a shard contains, in this order:

* ``ID10_001.json``: format, version, kind ("video": frames in time, "photos", "cameras": synchronised), name.
* ``ID10_001.0.track.safetensors``: a track without pictures, one per camera, or one per photo.
* ``ID10_001.0.0003.image.jpg``, ``.matte.png``, ``.classes.png``: pictures of the third frame of track 0.

Members are not compressed by tar, so that one view is one seek. They are read with the standard library, because the
draws of a training step depend on its number alone, which a stream of samples does not allow.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spatialavatar.errors import FormatError, InputError
from spatialavatar.generator.network.heads import view_direction
from spatialavatar.records import Pictures, Track
from spatialavatar.tracking.io import track_bytes, track_from_bytes

Kind = Literal["video", "photos", "cameras"]

SHARD_FORMAT: Final = "spatialavatar.shard"
SHARD_VERSION: Final = 1
_JPEG: Final = {"format": "JPEG", "quality": 95, "subsampling": 0}
_PNG: Final = {"format": "PNG"}
_PICTURES: Final = (("images", "image.jpg", _JPEG), ("mattes", "matte.png", _PNG), ("segments", "classes.png", _PNG))


@dataclass(frozen=True)
class View:
    """One picture of a person: a frame of one of the person's tracks."""

    track: int
    frame: int


@dataclass(frozen=True, eq=False)
class Person:
    """The part of one person of a shard that stays in memory.

    Attributes:
        name: as in the data set.
        kind: of the tracks.
        shard: the tar file.
        key: of the person in it.
        frames: of each track.
        directions: (V, 3) view direction of each view, in the order of the tracks.
        expressions: (V, E) of each view.
    """

    name: str
    kind: Kind
    shard: Path
    key: str
    frames: tuple[int, ...]
    directions: Tensor
    expressions: Tensor

    @property
    def views(self) -> list[View]:
        """All views, in the order of the tracks."""
        return [View(track, frame) for track, count in enumerate(self.frames) for frame in range(count)]


def person_key(name: str) -> str:
    """Convert a person's name to the key of a sample: a WebDataset key ends at the first dot."""
    return re.sub(r"[^\w+-]", "_", name)


def write_person(path: Path, name: str, kind: Kind, tracks: Sequence[Track]) -> None:
    """Write a tar file of one person; a shard is a concatenation of such files.

    Args:
        path: the file.
        name: of the person.
        kind: of the tracks.
        tracks: with images and mattes, and with classes if present.

    Raises:
        InputError: a track has no pictures.
    """
    key = person_key(name)
    facts = {"format": SHARD_FORMAT, "version": SHARD_VERSION, "name": name, "kind": kind, "tracks": len(tracks)}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, f"{key}.json", json.dumps(facts).encode())
        for number, track in enumerate(tracks):
            if track.pictures is None:
                raise InputError(f"A track of {name} has no pictures; track it with pictures.")
            _add(archive, f"{key}.{number}.track.safetensors", track_bytes(track.without_pictures()))
            for frame in range(len(track)):
                for field, suffix, options in _PICTURES:
                    pixels = getattr(track.pictures, field)
                    if pixels is not None:
                        content = io.BytesIO()
                        Image.fromarray(pixels[frame].numpy()).save(content, **options)
                        _add(archive, f"{key}.{number}.{frame:04d}.{suffix}", content.getvalue())


def join(parts: Sequence[Path], path: Path) -> None:
    """Join the members of several tar files into one."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as joined:
        for part in parts:
            with tarfile.open(part) as archive:
                for member in archive:
                    joined.addfile(member, archive.extractfile(member))


class Shard:
    """One tar file, opened for random access."""

    def __init__(self, path: Path) -> None:
        """Read the list of members.

        Raises:
            FormatError: the file is not a tar file, or is truncated.
        """
        self.path = path
        try:
            with tarfile.open(path, "r:") as archive:
                self._members = {member.name: (member.offset_data, member.size) for member in archive}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise FormatError(f"The shard {path.name} is damaged ({error}); make it again.") from error

    def keys(self) -> list[str]:
        """Return the keys of the people."""
        return [name.removesuffix(".json") for name in self._members if name.count(".") == 1]

    def tracks(self, key: str) -> tuple[dict[str, Any], list[Track]]:
        """Read a person's facts and tracks, without pictures.

        Raises:
            FormatError: a member is missing or damaged.
        """
        try:
            facts = dict(json.loads(self._read(f"{key}.json")))
            version, kind, count = facts["version"], facts["kind"], int(facts["tracks"])
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"The entry of {key} in {self.path.name} is damaged; make the shard again.") from error
        if facts.get("format") != SHARD_FORMAT or version != SHARD_VERSION or kind not in get_args(Kind):
            raise FormatError(f"{key} in {self.path.name} was written by another release; make the shard again.")
        return facts, [self._track(key, number) for number in range(count)]

    def view(self, key: str, view: View) -> Track:
        """Read one frame of a person, with its pictures.

        Raises:
            FormatError: a member is missing or damaged.
        """
        track = self._track(key, view.track)
        pictures = {}
        for field, suffix, _ in _PICTURES:
            name = f"{key}.{view.track}.{view.frame:04d}.{suffix}"
            if field != "segments" or name in self._members:
                pictures[field] = self._picture(name)[None]
        return track[view.frame].replace(pictures=Pictures(**pictures))

    def _track(self, key: str, number: int) -> Track:
        name = f"{key}.{number}.track.safetensors"
        return track_from_bytes(self._read(name), name)

    def _picture(self, name: str) -> Tensor:
        try:
            with Image.open(io.BytesIO(self._read(name))) as picture:
                return torch.from_numpy(np.array(picture))
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"The picture {name} in {self.path.name} is damaged; make the shard again.") from error

    def _read(self, name: str) -> bytes:
        if name not in self._members:
            raise FormatError(f"There is no {name} in {self.path.name}; make the shard again.")
        offset, size = self._members[name]
        with open(self.path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise FormatError(f"The shard {self.path.name} is cut off; make it again.")
        return content


class People:
    """The people in folders of shards who can be trained on.

    Attributes:
        people: in an order that depends on the files alone.
        skipped: reasons why others are left out, by file or by name.
    """

    def __init__(self, folders: Sequence[str | Path], head_id: str, least: int = 2) -> None:
        """Read all tracks once; pictures are read on demand.

        Args:
            folders: of ``*.tar`` files.
            head_id: of the head model.
            least: smallest number of views per person.

        Raises:
            InputError: a folder contains no shard, or no person can be used.
        """
        self.people: list[Person] = []
        self.skipped: dict[str, str] = {}
        self._shards: dict[Path, Shard] = {}
        for folder in map(Path, folders):
            paths = sorted(folder.glob("*.tar"))
            if not paths:
                raise InputError(f"There are no shards in {folder}; make some with 'spatialavatar shards'.")
            for path in paths:
                self._open(path, head_id, least)
        if not self.people:
            raise InputError(
                f"Nobody in {', '.join(map(str, folders))} can be trained on; the first reason: "
                f"{next(iter(self.skipped.values()))}"
            )

    def view(self, person: Person, view: View) -> Track:
        """Read one frame, with pictures; see :meth:`Shard.view`."""
        return self._shards[person.shard].view(person.key, view)

    def _open(self, path: Path, head_id: str, least: int) -> None:
        try:
            shard = self._shards[path] = Shard(path)
        except FormatError as error:
            self.skipped[str(path)] = str(error)
            return
        for key in shard.keys():  # noqa: SIM118 - not a dict
            try:
                self.people.append(_person(shard, key, head_id, least))
            except (FormatError, InputError) as error:
                self.skipped[f"{path}: {key}"] = str(error)


def _person(shard: Shard, key: str, head_id: str, least: int) -> Person:
    facts, tracks = shard.tracks(key)
    for track in tracks:
        if track.head_id != head_id:
            raise FormatError(
                f"{key} was tracked with the head model {track.head_id!r}, not {head_id!r}; track it again."
            )
        if not bool(torch.isfinite(track.params.shape).all() & torch.isfinite(track.camera.intrinsics).all()):
            raise FormatError(f"The identity or the camera of {key} is not finite; track it again.")
        if not torch.equal(track.params.shape, tracks[0].params.shape):
            raise FormatError(f"The tracks of {key} have different shapes; track them in one call.")
    person = Person(
        name=str(facts["name"]),
        kind=facts["kind"],
        shard=shard.path,
        key=key,
        frames=tuple(len(track) for track in tracks),
        directions=torch.cat([view_direction(track.camera, track.params) for track in tracks]),
        expressions=torch.cat([track.params.expression for track in tracks]),
    )
    if len(person.directions) < least:
        raise InputError(f"{key} is seen in only {len(person.directions)} picture; {least} are needed.")
    return person


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
