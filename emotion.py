"""Recognize the facial expression in images: prints JSON with the probabilities of each class.

An image should be a face, cropped as in training. For other photos, --detect_face finds the faces
first and prints an answer for each, the largest first, with its `rect` (x, y, width, height) in
pixels of the photo as displayed. If no face is found, the whole photo is classified. `probs` are
per cent in the order of the model's classes; for the seven emotions: 기쁨 당황 분노 불안 상처 슬픔
중립.

One image prints the list of its faces. Several images print one object per line, {"file": …,
"faces": […]} or {"file": …, "error": …}, in their order.

  python emotion.py --img face.jpg
  python emotion.py --img photo.jpg --detect_face --model_path model.pt
  python emotion.py --img photos/ more/*.jpg @list.txt --detect_face --save marked > answers.jsonl
  python emotion.py --img https://example.org/photo.jpg --detect_face
  curl https://example.org/face.jpg | python emotion.py --img -
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from utils import cli
from utils.console import ProgressBar
from utils.errors import StageError
from utils.imaging.image_io import ImageError, open_header
from utils.imaging.preprocess import MAX_SIDE
from utils.recognition.inputs import ImageSource, expand_inputs

if TYPE_CHECKING:
    from utils.recognition.photo import RecognizedPhoto


def make_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    inputs = "images: files, folders, patterns, @lists, addresses, - for stdin"
    flag("--img", inputs, ["기쁨.jpg"], str, nargs="+", metavar="IMAGE")
    model = "trained model (default: model.pt, or the bundled model if there is none)"
    flag("--model_path", model, None, Path, metavar="FILE")
    flag("--batch_size", "faces per batch, over several images", 64, cli.positive_int, metavar="N")
    flag("--save", "write the photos with marked faces to this folder", None, Path, metavar="DIR")
    parser.reference_size_flag(MAX_SIDE)
    parser.section("face detection")
    parser.switch("--detect_face", "find the faces in the images first", False)
    smallest = "smallest face, as a fraction of the photo's shorter side"
    flag("--min_face", smallest, 0.1, cli.fraction, metavar="X")
    margin = "margin on each side of a face, as a fraction of its size"
    flag("--margin", margin, 0.0, cli.fraction, metavar="X")
    parser.section("device")
    parser.device_flags()
    return parser


def main() -> int:
    args = make_parser().parse_args()
    sources, is_single = expand_inputs(args.img)
    if is_single and sources[0].is_file:
        check_image(sources[0])
    if args.save:
        check_save(sources, args.save)
    # torch takes seconds to import: --help, wrong flags and bad files must not wait for it.
    from utils.inference.checkpoint import default_model_path
    from utils.recognition.photo import DetectionOptions, classify_photos, read_photos
    from utils.recognition.recognizer import Recognizer

    model_path = args.model_path or default_model_path()
    classify = Recognizer(model_path, args.gpu, args.cuda_idx, args.image_size)
    detection = DetectionOptions(args.min_face, args.margin) if args.detect_face else None
    photos = read_photos(sources, classify.preprocess, detection, keep_pictures=bool(args.save))
    failed = 0
    with ProgressBar(len(sources), "" if is_single else "recognize", "image") as bar:
        for photo in classify_photos(photos, classify, args.batch_size):
            if is_single and photo.error:
                raise StageError(f"--img {photo.source.name}: {photo.error}")
            print_answer(photo, is_single)
            error = photo.error or (try_save(photo, args.save) if args.save else "")
            if error:
                failed += 1
                bar.fail(photo.source.name, error)
            bar.update()
    return cli.SOME_FAILED if failed else cli.OK


def check_image(source: ImageSource) -> None:
    """Raise StageError for a file that is not an image, before the model is loaded."""
    try:
        open_header(Path(source.name)).close()
    except ImageError as error:
        raise StageError(f"--img {source.name}: {error}") from None


def check_save(sources: list[ImageSource], folder: Path) -> None:
    """Raise StageError if a marked photo would overwrite one of the inputs."""
    files = {Path(source.name).resolve() for source in sources if source.is_file}
    for source in sources:
        path = folder / source.output_name
        if path.resolve() in files:
            raise StageError(f"--save {folder} would overwrite the photo {path}: name another")


def print_answer(photo: RecognizedPhoto, is_single: bool) -> None:
    """Print a photo's faces, or one line of several, as JSON."""
    answer = {"error": photo.error} if photo.error else {"faces": photo.answers}
    content = photo.answers if is_single else {"file": photo.source.name, **answer}
    print(json.dumps(content, ensure_ascii=False), flush=True)


def try_save(photo: RecognizedPhoto, folder: Path) -> str:
    """Save the marked photo. Return the reason if that fails, else an empty text."""
    try:
        photo.save(folder)
    except ImageError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    cli.run(main)
