"""The whole pipeline on a painted sample, by the real scripts: `make demo`.

Everything is made in demo/out, which is emptied first; the photos are served from 127.0.0.1.

  python -m demo.run
  python -m demo.run --per_class 200 --epochs 40
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from utils.errors import StageError

ROOT = Path(__file__).resolve().parent.parent
from demo.pictures import draw_pipeline, draw_results
from demo.sample import make_sample
from utils import cli
from utils.data.annotations import Table

MARK = ".made-by-the-demo"

# A set this small needs small steps, and many of them.
TRAINING = ("--amp", "off", "--optimizer", "adam", "--lr", 0.0003, "--batch_size", 16)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 is too few for a downloader
    daemon_threads = True


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.flag("--per_class", "photos of each emotion", 60, cli.positive_int, metavar="N")
    parser.flag("--epochs", "of training", 24, cli.positive_int, metavar="N")
    parser.flag("--output", "made anew each time", ROOT / "demo" / "out", Path, metavar="DIR")
    args = parser.parse_args()
    started = time.monotonic()
    out = empty(args.output)

    server = Server(("127.0.0.1", 0), partial(QuietHandler, directory=out))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("a sample is painted, and served from this machine")
    table = make_sample(out, f"http://127.0.0.1:{server.server_port}/photos", args.per_class)
    print(f"{Table(table, ()).count()} rows in {table}", flush=True)

    run = partial(script, out)
    # 1 is what a stage says when it has logged something that it could not do; here there is.
    say("1 download")
    run("downloadImage.py", "--input", "emotions.tsv", expect=1)
    say("2 crop")
    run("cropImages.py", "--input", "emotions.tsv", expect=1)
    say("3 split")
    run("dataPreparation.py")
    say("4 train")
    run("train.py", *TRAINING, "--epochs", args.epochs)
    say("5 test")
    run("test.py")
    say("what could not be done, by the error logs (some of the sample is broken on purpose)")
    show_errors(out)
    say("the answer for one photo")
    run("emotion.py", "--img", one_face(out, "기쁨"))
    draw_pipeline(out, out / "pipeline.png")
    draw_results(out, out / "results.png")
    say(f"done in {time.monotonic() - started:.0f} seconds; what to try next")
    print_next(out)
    return cli.OK


def empty(out: Path) -> Path:
    """The folder, with whatever an earlier demo made in it removed, and nothing else."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).exists():
            raise StageError(f"--output {out} is not empty, and not of an earlier demo")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    return out.resolve()


def script(out: Path, name: str, *flags: object, expect: int = 0) -> None:
    """Run one of the toolkit's scripts in the folder, as a user would."""
    words = [str(flag) for flag in flags]
    print("$ python", shlex.join([name, *words]), flush=True)
    status = subprocess.run([sys.executable, str(ROOT / name), *words], cwd=out).returncode
    if status != expect:
        raise StageError(f"{name} ended with status {status}, not {expect}")


def show_errors(out: Path) -> None:
    for log in sorted(out.glob("*.error.log")):
        for row in Table(log, ("name",)):
            print(f"{log.name}: {row['name'][:24]}…  {row.error[0]}")


def one_face(out: Path, emotion: str) -> Path:
    return min((out / "data" / "test" / emotion).iterdir()).relative_to(out)


def print_next(out: Path) -> None:
    where = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
    face = where / one_face(out, "슬픔")
    training = " ".join(map(str, TRAINING))
    for line in (
        ". .venv/bin/activate",
        f"python emotion.py --model_path {where}/model.pt --img {shlex.quote(str(face))}",
        f"python train.py --data_path {where}/data {training} --epochs 80 --model_path better.pt",
        f"python test.py --data_path {where}/data --model_path better.pt",
    ):
        print(f"  {line}")
    print(f"pictures to look at: {where}/pipeline.png {where}/results.png")
    print("your own photos: README.md, “The stages”")


def say(title: str) -> None:
    print(f"\n=== {title}", flush=True)


if __name__ == "__main__":
    cli.run(main)
