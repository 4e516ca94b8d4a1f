"""train.py in two processes, started by torchrun: it does what one process does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT, make_faces, one_line_error, run
from tests.trainings import CLASSES, PLAIN_FLAGS, equal_bits, run_results

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="gloo, /proc")]

RUNS = Path("runs")
TIMEOUT = 300  # seconds


@contextmanager
def torchrun(*args: object, cwd: Path) -> Iterator[subprocess.Popen]:
    """Start a script as a terminal does: torchrun and its processes are one group."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", *map(str, args)]
    process = subprocess.Popen(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    try:
        with process:
            yield process
    finally:
        with suppress(ProcessLookupError):  # if the test has failed
            os.killpg(process.pid, signal.SIGKILL)


def ranks(parent: int) -> dict[int, int]:
    """Return the processes that torchrun started, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, environment = (folder / "status").read_text(), (folder / "environ").read_bytes()
        except OSError:
            continue
        rank = re.search(rb"\0RANK=(\d+)\0", environment)
        if f"PPid:\t{parent}\n" in status and rank:
            found[int(rank[1])] = int(folder.name)
    return found


def wait_for(path: Path, process: subprocess.Popen, after: float = 0) -> None:
    """Wait until the process has written a file."""
    while not (path.exists() and path.stat().st_mtime > after):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def lines_of_train(errors: str) -> list[str]:
    """Return what train.py itself has printed on stderr, without what torchrun adds."""
    return [line for line in errors.splitlines() if line.startswith(("train.py", "stopping"))]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A training in two processes that was killed before its first save and after an epoch; its
    flags; and how torchrun ended. Before it, one process has finished the same training.
    """
    folder = tmp_path_factory.mktemp("killed")
    for i, (name, count) in enumerate({"train": 8, "validation": 3}.items()):
        make_faces(folder / "data" / name, CLASSES, count, seed=i)
    args = [*PLAIN_FLAGS, "--data_path", folder / "data", "--mixup", 0.2, "--accumulate", 2]
    args += ["--epochs", 3]
    assert run("train.py", *args, cwd=folder).returncode == 0
    words = ("--nproc_per_node=2", "--max-restarts=2", ROOT / "train.py", *args)
    with torchrun(*words, cwd=folder) as both:
        run_folder = folder / RUNS / "002-emotionnet"
        for path, rank in ((run_folder, 1), (run_folder / "results.csv", 0)):
            wait_for(path, both)
            time.sleep(0.2)  # its line is printed after the file is written
            os.kill(ranks(both.pid)[rank], signal.SIGKILL)
        out, err = both.communicate(timeout=TIMEOUT)
    return folder, args, both.returncode, out, err


def test_train_in_two_processes_does_what_one_does_even_if_one_is_killed(killed):
    folder, _, status, out, err = killed
    assert status == 0, err
    assert "2 processes, cpu" in out and "batches of 8 over all processes" in out
    assert out.count("epoch 1/3") == 1 and out.count("epoch 3/3") == 1
    # The restarts go on with their own run, not with the finished one that has the same flags.
    assert re.search(r"runs/002-emotionnet resumes in epoch [23]", out)
    assert len(list((folder / RUNS).iterdir())) == 2
    one, two = (run_results(folder, f"00{i}-emotionnet") for i in (1, 2))
    for row, other in zip(one, two, strict=True):
        for key, value in row.items():
            assert float(value) == pytest.approx(float(other[key]), abs=1e-4), key
    assert "Traceback" not in err
    lost = "error: another process has ended or does not answer"
    assert all(lost in line for line in lines_of_train(err)) and "GLHF" not in err, err


def test_train_stopped_in_every_way_and_resumed_ends_with_the_same_bits(killed, tmp_path):
    undisturbed, args, *_ = killed
    run_folder = RUNS / "001-emotionnet"
    stops = {
        "SIGTERM to torchrun": lambda both: both.send_signal(signal.SIGTERM),
        "Ctrl-C": lambda both: os.killpg(both.pid, signal.SIGINT),
    }
    flags = args
    for name, stop in stops.items():
        started = time.time()
        with torchrun("--nproc_per_node=2", ROOT / "train.py", *flags, cwd=tmp_path) as both:
            wait_for(tmp_path / run_folder / "last.pt", both, after=started)
            stop(both)
            _, err = both.communicate(timeout=TIMEOUT)
        assert both.returncode == 1, name  # torchrun's own
        interrupted = "train.py: interrupted; the training is saved; to resume: torchrun … train.py"
        *stopping, last = lines_of_train(err)
        assert last == f"{interrupted} --resume {run_folder}", (name, err)
        assert len(stopping) <= 1 and err.count("Traceback") == 1, err  # torchrun's own
        flags = ["--resume"]
    with torchrun("--nproc_per_node=2", ROOT / "train.py", *flags, cwd=tmp_path) as both:
        out, err = both.communicate(timeout=TIMEOUT)
    assert both.returncode == 0 and "epoch 3/3" in out, err
    states = [
        torch.load(path / "last.pt", weights_only=True)
        for path in (tmp_path / run_folder, undisturbed / RUNS / "002-emotionnet")
    ]
    assert equal_bits(*states)


def test_train_is_not_restarted_after_what_a_restart_cannot_cure(tmp_path):
    args = ("--nproc_per_node=2", "--max-restarts=2", ROOT / "train.py", "--data_path", "none")
    with torchrun(*args, cwd=tmp_path) as both:
        out, err = both.communicate(timeout=TIMEOUT)
    assert both.returncode == 1 and out == ""
    [line] = lines_of_train(err)
    assert line.startswith("train.py: error: none: no such folder")
    assert f"traceback : {line}" in err  # in torchrun's summary
    assert err.count("Traceback") == 1  # torchrun's own


def test_train_names_a_variable_that_the_launcher_did_not_set(trained, tmp_path):
    env = {"WORLD_SIZE": "2", "RANK": "0"}
    done = run("train.py", "--data_path", trained / "data", cwd=tmp_path, env=env)
    one_line_error(done, "LOCAL_RANK is not set: start train.py with torchrun")


def test_ctrl_c_ends_a_process_that_waits_for_another(tmp_path):
    env = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}  # where nobody listens
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "--amp", "off"], cwd=tmp_path,
        env=os.environ | env, stderr=subprocess.PIPE, text=True,
    ) as alone:  # fmt: skip
        while "libtorch_cpu" not in Path(f"/proc/{alone.pid}/maps").read_text():
            time.sleep(0.01)
        time.sleep(3)
        alone.send_signal(signal.SIGINT)
        assert alone.wait(20) == 130 and alone.stderr.read() == ""
