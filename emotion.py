"""Recognize the facial expressions in images and print the probabilities of each class as JSON.

An image should be a face, cropped as in training. For other photos, --detect_face finds the faces
first and prints an answer for each, the largest first, with its `rect` (x, y, width, height) in
pixels of the photo as displayed. If no face is found, the whole photo is classified, and its answer
has "detected": false. `probs` are per cent in the order of the model's classes, which the last line
below names; for the seven emotions: 기쁨 당황 분노 불안 상처 슬픔 중립.

One image prints the list of its faces. Several images print one object per line, {"file": …,
"classes": […], "faces": […]} or {"file": …, "error": …}, in their order; then a face also has `box`
(x, y, width, height) and the detector's `score`.

  python emotion.py face.jpg
  python emotion.py --img photo.jpg --detect_face --model_path model.pt
  python emotion.py --img photos/ more/*.jpg @list.txt --detect_face --save marked > answers.jsonl
  python emotion.py --img https://example.org/photo.jpg --detect_face
  curl https://example.org/face.jpg | python emotion.py --img -
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import argparse
import json
from pathlib import Path

from utils import cli
from utils.console import ProgressBar, info
from utils.errors import StageError
from utils.filenames import nfc
from utils.imaging.image_io import ImageError, open_header
from utils.imaging.preprocess import MAX_SIDE, TTA
from utils.inference.face_classifier import FaceClassifier, load_model
from utils.inference.model_path import default_model_path, display_path
from utils.inference.peek import describe_order
from utils.memory import keep_freed_memory
from utils.parallel import cores
from utils.recognition.face_detection import (
    DetectionOptions,
    FaceFinder,
    add_detection_flags,
)
from utils.recognition.inputs import ImageSource, expand_inputs
from utils.recognition.photo import (
    InputMaker,
    RecognizedPhoto,
    classify_photos,
    read_photos,
)

DEFAULT_IMAGES = ["기쁨.jpg"]


def make_parser() -> cli.Parser:
    """Return the parser of the script's flags."""
    parser = cli.Parser(__doc__)
    flag = parser.flag
    inputs = "images: files, folders, patterns, @lists, addresses, - (stdin); --img may be omitted"
    flag("--img", inputs, DEFAULT_IMAGES, str, nargs="+", metavar="IMAGE")
    parser.flagless("--img")
    model = "trained model (default: model.pt, or the bundled model if there is none)"
    flag("--model_path", model, None, cli.path, metavar="FILE")
    flag("--batch_size", "faces per batch, over several images", 64, cli.positive_int, metavar="N")
    marked = "write the photos with marked faces to this folder"
    flag("--save", marked, None, cli.path, metavar="DIR")
    parser.reference_size_flag(MAX_SIDE)
    tta = "test-time augmentation (default: what test.py --calibrate chose, else none)"
    flag("--tta", tta, None, str, choices=TTA)
    parser.section("face detection")
    parser.switch("--detect_face", "find the faces in the images first", False)
    add_detection_flags(parser)
    parser.section("device")
    parser.device_flags("fewer than about 1,000 small faces")
    parser.closing(describe_order)
    return parser


def main() -> int:
    """Classify the images and print the answers. Return the exit status."""
    args = make_parser().parse_args()
    if args.img is DEFAULT_IMAGES and not Path(*DEFAULT_IMAGES).exists():
        raise StageError("name a photo: python emotion.py photo.jpg --detect_face")
    sources, is_single = expand_inputs(args.img)
    if is_single and sources[0].is_file:
        check_image(sources[0])
    if args.save:
        check_save_folder(sources, args.save)
    keep_freed_memory()
    gpu = cli.wants_gpu(args)
    path = args.model_path or default_model_path(fast_start=not gpu)
    # Each photo counts as one face.
    model = load_model(path, gpu, args.cuda_idx, args.image_size, images=len(sources))
    inputs = InputMaker.of(model.info, make_finder(args, is_single), args.margin)
    photos = read_photos(sources, inputs, keep_pictures=bool(args.save))
    classifier = FaceClassifier(model, args.tta)
    who_answers = f"{display_path(path)}: {model.info.describe()}; {' '.join(model.info.classes)}"
    description, record = "" if is_single else "recognize", "the answers name all of them"
    with ProgressBar(len(sources), description, "image", record=record) as bar:
        for photo in classify_photos(photos, classifier, args.batch_size):
            if is_single and photo.error:
                raise StageError(f"--img {photo.name}: {photo.error}")
            if who_answers and not photo.error:
                info(who_answers)  # once, if there is an answer
                who_answers = ""
            print_answer(photo, is_single, classifier.classes)
            if error := photo.error or save(photo, args.save):
                bar.fail(photo.name, error, is_recorded=bool(photo.error))
            bar.update()
    return cli.SOME_FAILED if bar.failures else cli.OK


def make_finder(args: argparse.Namespace, is_single: bool) -> FaceFinder | None:
    """Return what finds the faces, or None if the images are faces."""
    if not args.detect_face:
        return None
    # Several photos are searched at the same time, each by one thread.
    return FaceFinder(DetectionOptions.of(args), cores() if is_single else 1)


def check_image(source: ImageSource) -> None:
    """Raise StageError if a file is not an image, before the model is loaded."""
    try:
        with open_header(Path(source.name)):
            pass
    except ImageError as error:
        raise StageError(f"--img {source.name}: {error}") from None


def check_save_folder(sources: list[ImageSource], folder: Path) -> None:
    """Raise StageError if a marked photo would overwrite one of the inputs."""
    files = {place_of(Path(source.name)) for source in sources if source.is_file}
    for source in sources:
        path = folder / source.output_name
        if place_of(path) in files:
            raise StageError(
                f"--save {folder} would overwrite the photo {path}: name another folder"
            )


def place_of(path: Path) -> tuple[Path, str]:
    """Return what is equal for two paths of one file, also where the disk ignores case."""
    path = path.resolve()
    return path.parent, nfc(path.name).casefold()


def print_answer(photo: RecognizedPhoto, is_single: bool, classes: list[str]) -> None:
    """Print the answers as JSON: of a single image as a list, of one of several as an object."""
    if is_single:
        answer: object = photo.answers
    elif photo.error:
        answer = {"file": photo.name, "error": photo.error}
    else:
        answer = {"file": photo.name, "classes": classes, "faces": photo.full_answers()}
    print(json.dumps(answer, ensure_ascii=False), flush=True)


def save(photo: RecognizedPhoto, folder: Path | None) -> str:
    """Save the marked photo, if a folder is given. Return the reason if that fails, else ""."""
    try:
        if folder:
            photo.save(folder)
    except ImageError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    cli.run(main)
