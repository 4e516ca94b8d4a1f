"""Run the whole pipeline on a painted sample, with the real scripts: `make demo`.

The results are in demo/out, which is emptied first. The photos are served from 127.0.0.1.

  python -m demo.run
  python -m demo.run --per_class 200 --epochs 40
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import shlex
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from demo.pictures import draw_pipeline, draw_results
from demo.sample import make_sample
from utils import cli
from utils.data.annotations import Table
from utils.errors import StageError

ROOT = Path(__file__).resolve().parent.parent
MARK = ".made-by-the-demo"  # an empty file in a folder that may be emptied

# A small dataset needs small and many steps.
TRAINING = ("--amp", "off", "--optimizer", "adam", "--lr", 0.0003, "--batch_size", 16)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serve files without a line for each request."""

    def log_message(self, *args: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """A server for many connections at a time."""

    request_queue_size = 128  # the default of 5 is too few for a downloader
    daemon_threads = True


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.flag("--per_class", "photos of each emotion", 60, cli.positive_int, metavar="N")
    parser.flag("--epochs", "epochs of training", 24, cli.positive_int, metavar="N")
    output = "folder for the results, emptied first"
    parser.flag("--output", output, ROOT / "demo" / "out", cli.path, metavar="DIR")
    args = parser.parse_args()
    started = time.monotonic()
    out = make_empty(args.output)

    server = Server(("127.0.0.1", 0), partial(QuietHandler, directory=out))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print_title("paint a sample and serve it from this machine")
    table = make_sample(out, f"http://127.0.0.1:{server.server_port}/photos", args.per_class)
    print(f"{Table(table, ()).count()} rows in {table}", flush=True)

    run = partial(run_script, out)
    print_title("1 download")
    run("downloadImage.py", "--input", "emotions.tsv", expected=cli.SOME_FAILED)
    print_title("2 crop")
    run("cropImages.py", "--input", "emotions.tsv", expected=cli.SOME_FAILED)
    print_title("3 split")
    run("dataPreparation.py")
    print_title("4 train")
    run("train.py", *TRAINING, "--epochs", args.epochs)
    print_title("5 test")
    run("test.py")
    print_title("failed rows, from the error logs (some rows are broken on purpose)")
    print_errors(out)
    print_title("recognize one face")
    run("emotion.py", "--img", first_test_face(out, "기쁨"))
    draw_pipeline(out, out / "pipeline.png")
    draw_results(out, out / "results.png")
    print_title(f"done in {time.monotonic() - started:.0f} seconds; try next:")
    print_next_steps(out)
    return cli.OK


def make_empty(out: Path) -> Path:
    """Return the folder without the results of an earlier demo.

    Raise StageError if it holds anything else.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).exists():
            raise StageError(
                f"--output {out} is not empty and not from an earlier demo: name another folder"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    return out.resolve()


def run_script(out: Path, name: str, *flags: object, expected: int = cli.OK) -> None:
    """Run a script of the toolkit in the folder, as a user would.

    Raise StageError if its exit status is not the expected one.
    """
    words = [str(flag) for flag in flags]
    print("$ python", shlex.join([name, *words]), flush=True)
    status = subprocess.run([sys.executable, str(ROOT / name), *words], cwd=out).returncode
    if status != expected:
        raise StageError(f"{name} ended with exit status {status}, not {expected}")


def print_errors(out: Path) -> None:
    """Print the name of each failed row, shortened, and the reason."""
    for log in sorted(out.glob("*.error.log")):
        for row in Table(log, ("name",)):
            name = row["name"]
            short_name = name if len(name) <= 24 else f"{name[:24]}…"
            print(f"{log.name}: {short_name}  {row.error[0]}")


def first_test_face(out: Path, emotion: str) -> Path:
    """Return the first face of an emotion in the test set, relative to the folder."""
    return min((out / "data" / "test" / emotion).iterdir()).relative_to(out)


def print_next_steps(out: Path) -> None:
    """Print commands to try and where the pictures are."""
    folder = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
    face = folder / first_test_face(out, "슬픔")
    training = " ".join(map(str, TRAINING))
    for line in (
        ". .venv/bin/activate",
        f"python emotion.py --model_path {folder}/model.pt --img {shlex.quote(str(face))}",
        f"python train.py --data_path {folder}/data {training} --epochs 80 --model_path better.pt",
        f"python test.py --data_path {folder}/data --model_path better.pt",
    ):
        print(f"  {line}")
    print(f"pictures: {folder}/pipeline.png {folder}/results.png")
    print(f"faces and annotators, for a browser: {folder}/crop/index.html")
    print(f"report of the test, for a browser: {folder}/model-report/test/report.html")
    print("your own photos: docs/dataset.md")


def print_title(title: str) -> None:
    """Print the title of a part of the demo."""
    print(f"\n=== {title}", flush=True)


if __name__ == "__main__":
    cli.run(main)
