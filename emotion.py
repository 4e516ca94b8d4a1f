"""Say which emotions faces show: one line of JSON for each image.

An image should be a face, cut out as in training. For a photo with more in it, --detect_face finds
the faces first and gives an answer for each, the largest first, with its `rect` (x, y, width,
height) in pixels of the photo as displayed. Where no face is found the whole image is taken for
one. `probs` are per cent, in the order of the model's classes; for the seven emotions: 기쁨 당황
분노 불안 상처 슬픔 중립.

One image prints the list of its faces; several print an object a line, {"file": …, "faces": […]},
or {"file": …, "error": …}, in their order.

  python emotion.py --img face.jpg
  python emotion.py --img photo.jpg --detect_face --model_path model.pt
  python emotion.py --img photos/ more/*.jpg @list.txt --detect_face --save marked > answers.jsonl
  python emotion.py --img https://example.org/photo.jpg --detect_face
  curl https://example.org/face.jpg | python emotion.py --img -
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from utils import cli
from utils.cli import StageError
from utils.recognition.inputs import Source, expand

if TYPE_CHECKING:  # torch takes seconds, which --help or a wrong flag should not
    from utils.recognition.photo import Photo
    from utils.recognition.recognizer import Recognizer


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    what = "files, folders, patterns, @lists, addresses, - for stdin"
    flag("--img", what, ["기쁨.jpg"], str, nargs="+", metavar="IMAGE")
    model = "the trained model (model.pt; where there is none, the one in pretrained/)"
    flag("--model_path", model, None, Path, metavar="FILE")
    flag("--batch_size", "faces at a time, from several images", 64, cli.positive, metavar="N")
    flag("--save", "write the photos, marked, into this folder", None, Path, metavar="DIR")
    parser.original_size_flag()
    parser.section("finding faces")
    parser.switch("--detect_face", "find the faces in the images first", False)
    flag("--min_face", "smallest, as share of a photo's shorter side", 0.1, cli.share, metavar="X")
    flag("--margin", "share of a face's side to add on each side", 0.0, cli.share, metavar="X")
    parser.section("the machine")
    parser.device_flags()
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    sources, plain = expand(args.img)
    if plain and sources[0].is_file:
        check_image(sources[0])
    if args.save:
        check_save(sources, args.save)
    from utils.inference.checkpoint import choose_model
    from utils.recognition.recognizer import Recognizer

    recognize = Recognizer(choose_model(args.model_path), args.gpu, args.cuda_idx, args.image_size)
    failed = 0
    with cli.Bar(len(sources), "recognize" if not plain else "", "image") as bar:
        for photo in answered(read(sources, recognize, args), recognize, args.batch_size):
            if plain and photo.error:
                raise StageError(f"--img {photo.source.name}: {photo.error}")
            answer = {"error": photo.error} if photo.error else {"faces": photo.answers}
            line = photo.answers if plain else {"file": photo.source.name, **answer}
            print(json.dumps(line, ensure_ascii=False), flush=True)
            error = photo.error or (save(photo, args.save) if args.save else "")
            if error:
                failed += 1
                bar.fail(photo.source.name, error)
            bar.update()
    return cli.SOME_FAILED if failed else cli.OK


def save(photo: Photo, folder: Path) -> str:
    """Write the marked photo; why that failed, or nothing."""
    from utils.imaging.image_io import ImageError

    try:
        photo.save(folder)
    except ImageError as error:
        return str(error)
    return ""


def check_save(sources: list[Source], folder: Path) -> None:
    """Raises StageError where a marked photo would be written over one that is read."""
    files = {Path(source.name).resolve() for source in sources if source.is_file}
    for source in sources:
        path = folder / source.relative
        if path.resolve() in files:
            raise StageError(f"--save {folder} would write over the photo {path}: name another")


def check_image(source: Source) -> None:
    """A file that is no image is told before the model is read, which takes longer."""
    from utils.imaging.image_io import ImageError, open_header

    try:
        open_header(Path(source.name)).close()
    except ImageError as error:
        raise StageError(f"--img {source.name}: {error}") from None


def read(sources: list[Source], recognize: Recognizer, args: argparse.Namespace) -> Iterator[Photo]:
    """The photos, decoded, with their faces cut out; several at a time where there are several."""
    from concurrent.futures import ThreadPoolExecutor

    from utils.parallel import cores, ordered_map
    from utils.recognition.photo import read_photo

    how = recognize.preprocess
    jobs = (
        (source, how, args.detect_face, args.min_face, args.margin, bool(args.save))
        for source in sources
    )
    if len(sources) == 1:
        return (read_photo(*job) for job in jobs)
    # Threads are enough: decoding and detection do not hold Python's lock.
    return ordered_map(ThreadPoolExecutor(cores()), read_photo, jobs, 4 * cores())


def answered(photos: Iterator[Photo], recognize: Recognizer, size: int) -> Iterator[Photo]:
    """The photos, in order, with the answers for their faces, found in batches of about `size`."""
    while batch := list(islice(photos, 1)):
        faces = list(batch[0].faces)
        while len(faces) < size and (more := next(photos, None)):
            batch.append(more)
            faces += more.faces
        answers = iter(recognize(faces)) if faces else iter(())
        for photo in batch:
            photo.answer(list(islice(answers, len(photo.faces))))
            yield photo


if __name__ == "__main__":
    cli.run(main)
