"""Fixtures that every test area shares."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Many small tensor operations thrash when OpenMP takes every core of a shared machine."""
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One torch thread: small tensors are done before a second thread has started."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _results_follow_their_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command of a test returns as JSON follows the schema that the command publishes."""
    from spatialavatar import cli
    from spatialavatar.cli.output import json_object
    from spatialavatar.cli.schemas import schema_of

    run = cli._run

    def checked(options: argparse.Namespace) -> None:
        work = options.run

        def validated(*arguments: Any) -> Any:
            outcome = work(*arguments)
            jsonschema.validate(json.loads(json_object(outcome.facts)), schema_of(options.command))
            return outcome

        options.run = validated
        run(options)

    monkeypatch.setattr(cli, "_run", checked)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def examples(repository: Path) -> Path:
    """The folder of example photos, clips and motions."""
    return repository / "examples"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test faces that may not be redistributed; skips where it is not at hand."""
    named = os.environ.get("SPATIALAVATAR_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the test faces are not here; set SPATIALAVATAR_DATA to their folder")
    return folder


@pytest.fixture
def gradient() -> np.ndarray:
    """(80, 96, 3) uint8: red grows to the right, green downwards, blue is constant."""
    y, x = np.mgrid[0:80, 0:96]
    return np.stack([x * 2, y * 3, np.full_like(x, 90)], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one module: while it lives, no other event loop can run in this thread."""
    from .support.chromium import launched

    with launched() as browser:
        yield browser
