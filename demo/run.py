"""The whole pipeline on a painted sample, by the real scripts: `make demo`.

Everything is made in demo/out, which is emptied first; the photos are served from 127.0.0.1.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo" / "out"
sys.path.insert(0, str(ROOT))

from demo.pictures import draw_pipeline, draw_results  # noqa: E402
from demo.sample import make_sample  # noqa: E402
from utils import cli  # noqa: E402

# A set this small needs small steps, and many of them.
TRAINING = ("--optimizer", "adam", "--lr", 0.0003, "--batch_size", 16)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 is too few for a downloader
    daemon_threads = True


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.flag("--per_class", "photos of each emotion", 60, cli.positive, metavar="N")
    parser.flag("--epochs", "of training", 24, cli.positive, metavar="N")
    args = parser.parse_args()
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()

    server = Server(("127.0.0.1", 0), partial(QuietHandler, directory=OUT))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("a sample is painted, and served from this machine")
    table = make_sample(OUT, f"http://127.0.0.1:{server.server_port}/photos", args.per_class)
    with table.open(encoding="utf-8-sig") as lines:
        print(f"{sum(1 for _ in lines) - 1} rows in {table.relative_to(ROOT)}", flush=True)

    run_pipeline(args)
    show_errors()
    say("the answer for one photo: python emotion.py")
    face = next((OUT / "data" / "test" / "기쁨").iterdir())
    script("emotion.py", "--img", face.relative_to(OUT))
    draw_pipeline(OUT, OUT / "pipeline.png")
    draw_results(OUT, OUT / "results.png")
    print_next(time.monotonic() - started)
    return cli.OK


def run_pipeline(args: argparse.Namespace) -> None:
    # 1 is what a stage says when it has logged something that it could not do; here there is.
    say("1 download: python downloadImage.py")
    script("downloadImage.py", "--input", "emotions.tsv", expect=1)
    say("2 crop: python cropImages.py")
    script("cropImages.py", "--input", "emotions.tsv", expect=1)
    say("3 split: python dataPreparation.py")
    script("dataPreparation.py")
    say("4 train: python train.py")
    script("train.py", *TRAINING, "--epochs", args.epochs)
    say("5 test: python test.py")
    script("test.py")


def script(name: str, *flags: object, expect: int = 0) -> None:
    """Run one of the toolkit's scripts in demo/out, as a user would."""
    words = [str(flag) for flag in flags]
    print("$ python", shlex.join([name, *words]), flush=True)
    status = subprocess.run([sys.executable, str(ROOT / name), *words], cwd=OUT).returncode
    if status != expect:
        raise cli.StageError(f"{name} ended with status {status}, not {expect}")


def show_errors() -> None:
    say("what could not be done, by the error logs (some of the sample is broken on purpose)")
    for log in sorted(OUT.glob("*.error.log")):
        with log.open(encoding="utf-8", newline="") as lines:
            # Cells stand in a log as they did in the table; only the last two are of interest.
            rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        for row in rows[1:]:
            print(f"{log.name}: {row[0][:24]}…  {row[-2]}")


def print_next(seconds: float) -> None:
    say(f"done in {seconds:.0f} seconds; what to try next, in demo/out")
    face = next((OUT / "data" / "test" / "슬픔").iterdir()).relative_to(OUT)
    for line in (
        "cd demo/out && . ../../.venv/bin/activate",
        "python ../../downloadImage.py --input download.error.log   # once more, only what failed",
        f"python ../../emotion.py --img {shlex.quote(str(face))}",
        f"python ../../train.py {' '.join(map(str, TRAINING))} --epochs 80   # longer, better",
    ):
        print("  " + line)
    print("pictures: demo/out/pipeline.png demo/out/results.png")
    print("your own data: README.md, “The stages”")


def say(title: str) -> None:
    print(f"\n=== {title}", flush=True)


if __name__ == "__main__":
    cli.run(main)
