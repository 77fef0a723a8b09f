"""The calls behind the page and the endpoints: checked values in, a stream of steps in a temporary folder out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from spatialavatar import __version__
from spatialavatar.app import checks
from spatialavatar.app.backend import Backend
from spatialavatar.app.endpoints import endpoint
from spatialavatar.app.jobs import stoppable
from spatialavatar.app.requests import EXPORTS
from spatialavatar.app.sessions import work_folder
from spatialavatar.app.steps import Step, Steps, complaint, for_people, plain
from spatialavatar.app.where import what_runs_where
from spatialavatar.errors import SpatialAvatarError
from spatialavatar.examples import MOTIONS
from spatialavatar.pipeline import MAX_PHOTOS


class Service:
    """Runs the work of the endpoints on a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def steps(self, name: str, /, overrides: dict[str, Any] | None = None, **values: Any) -> Steps:
        """The steps of one endpoint's work.

        The files that a step names exist until the next step is requested or the stream is closed; copy what to keep.

        Args:
            name: of the endpoint, without a slash.
            overrides: fields of the request that no value of the endpoint sets.
            **values: as the endpoint takes them, files as local paths; others have their defaults.

        Raises:
            gr.Error: a value cannot be used, or the work failed; with a sentence.
        """
        one = endpoint(name)
        given = one.complete(values)
        for sentence in one.complaints(given).values():
            raise complaint(sentence)
        with _errors_for_people(), tempfile.TemporaryDirectory(dir=work_folder(), ignore_cleanup_errors=True) as folder:
            assert one.request is not None, f"/{name} has no steps"
            request = replace(one.request(given, folder), **overrides or {})
            for step in stoppable(getattr(self._backend, name)(request)):
                yield _plain(step)

    def info(self, avatar: str | None = None) -> dict[str, Any]:
        """Facts about this app, or about an avatar file.

        Raises:
            gr.Error: the file is not an avatar.
        """
        if avatar is not None:
            if (sentence := checks.avatar(avatar)) is not None:
                raise complaint(sentence)
            try:
                return _plain_facts(self._backend.avatar_facts(avatar))
            except SpatialAvatarError as error:
                raise for_people(error) from error
        return {
            "version": __version__,
            "where": what_runs_where(),
            "photos": MAX_PHOTOS,
            "video_seconds": checks.MAX_VIDEO_SECONDS,
            "video_sizes": list(checks.SIZES),
            "refine_iterations": [checks.MIN_REFINE_ITERATIONS, checks.MAX_REFINE_ITERATIONS],
            "refine_sizes": list(checks.REFINE_SIZES),
            "example_motions": list(MOTIONS),
            "track_formats": list(checks.TRACK_FORMATS),
            "export_formats": list(EXPORTS),
        }


@contextmanager
def _errors_for_people() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise for_people(error) from error


def _plain(step: Step) -> Step:
    """The step without anything in its texts that a page could take for markup."""
    return Step(step.fraction, plain(step.message), step.files, _plain_facts(step.facts))


def _plain_facts(value: Any) -> Any:
    """The value with every text in it, however deep, as one line without angle brackets."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): _plain_facts(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_facts(part) for part in value]
    return value
