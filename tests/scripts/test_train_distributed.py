"""train.py in two processes, started by torchrun: it does what one process does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT, one_line_error, run
from tests.trainings import PLAIN_FLAGS, run_results

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="gloo, /proc")]


def torchrun(*args: object, cwd: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", *map(str, args)]
    return subprocess.Popen(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def rank_one(parent: int) -> int:
    """Return the process of rank 1 that torchrun started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, environment = (folder / "status").read_text(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"PPid:\t{parent}\n" in status and b"\0RANK=1\0" in environment:
            return int(folder.name)
    raise AssertionError("no process of rank 1")


def test_train_in_two_processes_does_what_one_does_even_if_one_is_killed(trained, tmp_path):
    args = [*PLAIN_FLAGS, "--data_path", trained / "data", "--mixup", 0.2, "--accumulate", 2]
    args += ["--epochs", 3]
    assert run("train.py", *args, cwd=tmp_path).returncode == 0
    # Rank 1 is killed after the first epoch. torchrun restarts both, and they resume.
    both = torchrun(
        "--nproc_per_node=2", "--max-restarts=1", ROOT / "train.py", *args, "--save_every", 0,
        cwd=tmp_path,
    )  # fmt: skip
    while not (tmp_path / "runs/002-emotionnet/results.csv").exists():
        assert both.poll() is None, both.stderr.read()
        time.sleep(0.01)
    os.kill(rank_one(both.pid), signal.SIGKILL)
    out, err = both.communicate(timeout=120)
    assert both.returncode == 0, err
    assert "2 processes, cpu" in out and "batches of 8 over all processes" in out
    assert out.count("epoch 1/3") == 1 and out.count("epoch 3/3") == 1
    assert re.search(r"runs/002-emotionnet resumes in epoch [23]", out)
    assert len(list((tmp_path / "runs").iterdir())) == 2
    for one, two in zip(
        run_results(tmp_path), run_results(tmp_path, "002-emotionnet"), strict=True
    ):
        for key, value in one.items():
            assert float(value) == pytest.approx(float(two[key]), abs=1e-4), key


def test_train_names_a_variable_that_the_launcher_did_not_set(trained, tmp_path):
    env = {"WORLD_SIZE": "2", "RANK": "0"}
    done = run("train.py", "--data_path", trained / "data", cwd=tmp_path, env=env)
    one_line_error(done, "LOCAL_RANK is not set: start train.py with torchrun")
