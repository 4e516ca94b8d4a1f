"""torchrun: what the processes of a job leave for each other, and what is printed once."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from utils import torchrun

VARIABLES = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_ERROR_FILE", "RANK")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torchrun, "WAIT_SECONDS", 0.05)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Return a function that makes this process one that torchrun has started."""

    def start(attempt: int, rank: int) -> Path:
        folder = tmp_path / f"id_xyz/attempt_{attempt}/{rank}"
        folder.mkdir(parents=True, exist_ok=True)
        values = ("none", attempt, folder / "error.json", rank)
        for name, value in zip(VARIABLES, values, strict=True):
            monkeypatch.setenv(name, str(value))
        return folder / "error.json"

    return start


def test_torchrun_is_the_launcher_where_it_set_its_variables(job):
    assert not torchrun.is_launcher()
    job(0, 0)
    assert torchrun.is_launcher()


def test_without_torchrun_everything_is_printed():
    assert torchrun.report("a", is_final=True) and torchrun.report("a", is_final=True)
    assert torchrun.earlier_failure() is None


def test_a_reason_is_printed_by_one_process_and_shown_by_torchrun_for_each(job):
    for rank, is_printed in ((0, True), (1, False), (2, False)):
        file = job(0, rank)
        assert torchrun.report("train.py: error: 한글 \ud800", is_final=False) is is_printed
        message = json.loads(file.read_text("utf-8"))["message"]
        assert message["extraInfo"]["py_callstack"] == "train.py: error: 한글 \ud800"
        assert abs(int(message["extraInfo"]["timestamp"]) - time.time()) < 60
    assert torchrun.report("another", is_final=False)


def test_rank_0_prints_what_another_rank_would_if_it_comes_soon(job, monkeypatch):
    monkeypatch.setattr(torchrun, "WAIT_SECONDS", 30)
    results = []
    job(0, 1)
    path = Path(torchrun.os.environ["TORCHELASTIC_ERROR_FILE"]).parents[2]
    other = threading.Thread(target=lambda: results.append(torchrun._claim(path / "x")))
    other.start()
    time.sleep(0.05)
    assert results == []
    (path / "x").touch()
    other.join()
    assert results == [False]


def test_another_rank_prints_what_rank_0_does_not(job):
    job(0, 1)
    assert torchrun.report("only here", is_final=False)


@pytest.mark.parametrize("is_final", [False, True])
def test_only_a_final_reason_ends_the_next_attempts(job, is_final):
    job(0, 1)
    torchrun.report("bad \ud800", is_final=is_final)
    job(1, 0)
    assert torchrun.earlier_failure() == ("bad \\ud800" if is_final else None)
    assert torchrun.report("bad \ud800", is_final=is_final) is False  # printed already


def test_a_consequence_is_silent_after_a_cause_in_this_attempt(job):
    job(0, 0)
    assert torchrun.report("lost rank 1", is_final=False, is_consequence=True)
    job(1, 1)
    assert torchrun.report("bad input", is_final=True)
    job(1, 0)
    assert not torchrun.report("lost rank 2", is_final=False, is_consequence=True)
    job(2, 0)
    assert torchrun.report("lost rank 3", is_final=False, is_consequence=True)


@pytest.mark.parametrize("path", ["", "error.json", "/", "/tmp/error.json", "a/attempt_9/0/e.json"])
def test_an_unknown_layout_of_folders_is_not_used(job, monkeypatch, path):
    job(0, 0)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", path)
    assert torchrun.report("a", is_final=True) and torchrun.report("a", is_final=True)
    assert torchrun.earlier_failure() is None


def test_a_folder_that_cannot_be_written_hides_no_reason(job, monkeypatch):
    job(0, 0)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    assert torchrun.report("a", is_final=True)
