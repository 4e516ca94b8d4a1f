"""What the tests share: the scripts run as a user runs them, tables, photos and faces."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import runpy
import signal
import subprocess
import sys
import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from utils.data.annotations import COLUMNS, Table

ROOT = Path(__file__).resolve().parent.parent
MORTAL = ROOT / "tests/robustness/mortal"


def run(script: str, *args: object, cwd: Path, env: dict[str, str] | None = None):
    """Run a script to its end; stdout and stderr as text. No run may print a traceback."""
    if env is None and os.name == "posix":
        return _checked(_run_in_fork([str(ROOT / script), *map(str, args)], cwd))
    return _checked(_run_command(command(script, *args), cwd, env or {}))


def run_module(module: str, *args: object, cwd: Path):
    """Run a module of the project as `python -m` does, in any folder. See `run`."""
    words = [sys.executable, "-m", module, *map(str, args)]
    return _checked(_run_command(words, cwd, {"PYTHONPATH": str(ROOT)}))


def command(script: str, *args: object) -> list[str]:
    """Return the command line that starts a script in a new process."""
    return [sys.executable, str(ROOT / script), *map(str, args)]


def _run_command(words: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    done = subprocess.run(words, cwd=cwd, env=os.environ | env, capture_output=True)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    return done


def _checked(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert "Traceback" not in done.stderr, done.stderr
    return done


@cache
def fork_context():
    """Return a multiprocessing context whose processes have torch imported already.

    They are forked from a process that has done nothing but import. That takes longer than most of
    what the tests let the scripts do.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "torch.distributed.nn", "matplotlib.figure", "efficientnet_pytorch"]
    )
    return context


def _run_in_fork(
    words: list[str], cwd: Path, startup: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run a script in a new process, after the Python file `startup`."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("out", "err")]
        process = fork_context().Process(
            target=_become_script, args=(words, cwd, outputs, startup, env or {})
        )
        process.start()
        process.join()
        out, err = (path.read_bytes().decode() for path in outputs)
    return subprocess.CompletedProcess(words, process.exitcode, out, err)


def _become_script(
    words: list[str], cwd: Path, outputs: list[Path], startup: Path | None, env: dict[str, str]
) -> None:
    os.chdir(cwd)
    for number, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = words
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.path.insert(0, str(ROOT))
    os.environ.update(env)
    if startup:
        runpy.run_path(str(startup))
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def one_line_error(done: subprocess.CompletedProcess, *words: str) -> None:
    """Check that the script could not run, and said why in one line that holds the words."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stdout == "", done.stderr
    for word in words:
        assert word in done.stderr


def kill_at(step: int, script: str, *args: object, cwd: Path, sig=signal.SIGKILL) -> None:
    """Run the script, and end it when it begins its file operation number `step` below `cwd`."""
    done, _ = _run_mortal(step, script, *args, cwd=cwd, sig=sig)
    assert done.returncode == (130 if sig == signal.SIGINT else -sig), done.stderr
    assert "Traceback" not in done.stderr


def steps_of(script: str, *args: object, cwd: Path) -> int:
    """Run the script to its end. Return how many file operations it made below `cwd`."""
    done, steps = _run_mortal(0, script, *args, cwd=cwd, sig=0)
    assert done.returncode in (0, 1), done.stderr
    return steps


def _run_mortal(step: int, script: str, *args: object, cwd: Path, sig: int):
    with tempfile.TemporaryDirectory() as folder:
        steps = Path(folder) / "steps"
        env = {"STEP": str(step), "STEPS": str(steps), "SIGNAL": str(int(sig))}
        # By PYTHONPATH the script's workers import the same file.
        env |= {"FOLDER": str(cwd), "PYTHONPATH": str(MORTAL)}
        words = [str(ROOT / script), *map(str, args)]
        done = _run_in_fork(words, cwd, startup=MORTAL / "sitecustomize.py", env=env)
        return done, steps.stat().st_size


def jpeg(size: tuple[int, int] = (60, 80), colour="gray", orientation: int = 1) -> bytes:
    """The bytes of a JPEG of one colour, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG", exif=exif)
    return file.getvalue()


def box_cell(x1: float, y1: float, x2: float, y2: float) -> str:
    """A cell of the annotation table that holds one box."""
    return f'{{"boxes": [{{"minX": {x1}, "minY": {y1}, "maxX": {x2}, "maxY": {y2}}}]}}'


def name_of(emotion: str, number: int = 0) -> str:
    """The name of a photo on which a subject poses an emotion."""
    return f"subject_여_20_{emotion}_실내_20200101000000-000-{number:03d}.jpg"


def row(name: str, url: str = "", seen: str = "기쁨 기쁨 기쁨", box: str = "", **more: str):
    """A row of the annotation table as a dict, with three equal answers and boxes by default."""
    cells = dict.fromkeys(COLUMNS, "")
    cells |= {"name": name, "url": url or f"http://127.0.0.1:9/{name}"}
    for who, emotion in zip("ABC", seen.split(), strict=True):
        cells[f"Task{who}_emotion"] = emotion
        cells[f"Task{who}_result"] = box or box_cell(10, 10, 50, 60)
    return cells | more


def write_table(path: Path, rows: list[dict], header: bool = True) -> Path:
    """Write an annotation table and return its path."""
    lines = [list(COLUMNS)] if header else []
    lines += [list(row.values()) for row in rows]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def reasons_in(log: Path) -> dict[str, str]:
    """An error log as name → reason."""
    return {failed["name"]: failed.error[0] for failed in Table(log, ())} if log.exists() else {}


def decompose(folder: Path) -> None:
    """Give everything in the folder the name under which a Mac stores it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, by its path in it; temporary ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def crops_in(folder: Path) -> dict[str, bytes]:
    """Every file of cropImages.py's folder, see `tree`, but the page and the annotators' file."""
    found = tree(folder)
    return {path: found[path] for path in found if path not in ("index.html", "annotators.json")}


def make_faces(root: Path, classes: list[str], count: int, size: int = 48, seed: int = 0) -> Path:
    """Write class folders of images with a bright band, at another height for each class."""
    generator = np.random.default_rng(seed)
    for i, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True)
        for j in range(count):
            pixels = generator.integers(0, 60, (size, size), dtype=np.uint8)
            band = size // len(classes)
            pixels[i * band : (i + 1) * band] += 180
            Image.fromarray(pixels).save(folder / f"{j:04d}.png")
    return root


class Evil:
    """An object whose pickle runs a command when it is read."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def write_no_model(path: Path, kind: str, good: bytes = b"") -> None:
    """Write a file that is not a model file, of the given kind."""
    if kind in ("evil", "other"):
        torch.save({"weights": Evil() if kind == "evil" else torch.zeros(2)}, path)
    else:
        contents = {
            "random": np.random.default_rng(0).bytes(5000),
            "text": b"hello\n",
            "evil pickle": pickle.dumps(Evil()),
            "cut": good[: len(good) // 2],
        }
        path.write_bytes(contents[kind])
