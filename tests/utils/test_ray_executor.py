"""The connection to a Ray cluster. tests/robustness/test_ray.py runs the stages on one."""

from __future__ import annotations

import socket
import sys

import pytest

from utils.errors import StageError
from utils.ray_executor import RayExecutor, check_reachable


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_check_reachable_accepts_a_server_that_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_reachable(f"127.0.0.1:{server.getsockname()[1]}")
    check_reachable("auto")  # which only Ray can resolve


def test_check_reachable_names_the_address_that_nobody_listens_at(closed_port):
    with pytest.raises(StageError, match=rf"--ray 127\.0\.0\.1:{closed_port}: .*refused"):
        check_reachable(f"127.0.0.1:{closed_port}")
    with pytest.raises(StageError, match=r"--ray 127\.0\.0\.1:99999"):
        check_reachable("127.0.0.1:99999")


def test_ray_executor_without_ray_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(StageError, match=r"pip install -r requirements-ray\.txt"):
        RayExecutor("auto", 1)
