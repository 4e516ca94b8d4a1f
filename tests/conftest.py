"""Fixtures of more than one test file."""

from __future__ import annotations

import os
import signal

# A shell has what it starts in the background ignore Ctrl-C, and the scripts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests' networks and images are small. One thread each is faster than threads that wait for
# each other, above all where pytest itself runs in several processes. Torch reads it when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import make_faces, run
from tests.server import Server
from tests.trainings import CLASSES, LEARNING_FLAGS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    # With several processes, short tests at the end keep all of them busy.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with data/, and the model.pt that train.py made of it. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    for i, (name, count) in enumerate({"train": 24, "validation": 8, "test": 6}.items()):
        make_faces(folder / "data" / name, CLASSES, count, seed=i)
    done = run("train.py", *LEARNING_FLAGS, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "train.out").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def few_faces(tmp_path_factory) -> Path:
    """A data folder of two classes: eight images to learn from, and a few for the other sets. Not
    to be changed.
    """
    folder = tmp_path_factory.mktemp("few_faces")
    for name, count in {"train": 4, "validation": 1, "test": 2}.items():
        make_faces(folder / name, CLASSES[:2], count)
    return folder
