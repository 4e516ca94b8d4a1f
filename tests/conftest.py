"""Fixtures of more than one test file."""

from __future__ import annotations

import os

# The tests' networks and images are small. One thread each is faster than threads that wait for
# each other, above all where pytest itself runs in several processes. Torch reads it when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest

from tests.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()
