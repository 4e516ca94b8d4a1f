"""Fixtures of more than one test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()
