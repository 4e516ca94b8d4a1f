"""Say which emotion a face shows: one line of JSON for one image.

The image should be a face, cut out as in training. For a photo with more in it, --detect_face finds
the faces first and gives an answer for each, the largest first, with its `rect` (x, y, width,
height). Where no face is found the whole image is taken for one. `probs` are per cent, in the order
of the model's classes; for the seven emotions: 기쁨 당황 분노 불안 상처 슬픔 중립.

  python emotion.py --img face.jpg
  python emotion.py --img photo.jpg --detect_face --model_path model.pt
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from utils import cli
from utils.cli import StageError


def parse_args() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    flag = parser.flag
    flag("--img", "the image", Path("기쁨.jpg"), Path, metavar="FILE")
    flag("--model_path", "the trained model", Path("model.pt"), Path, metavar="FILE")
    parser.original_size_flag()
    parser.switch("--detect_face", "find the faces in the image first", False)
    parser.device_flags()
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    # Not imported for --help or a wrong flag: torch alone takes seconds.
    from utils.images import ImageError, open_header, open_image
    from utils.recognizer import Recognizer

    try:
        open_header(args.img).close()  # before the model is read, which takes longer
        recognize = Recognizer(args.model_path, args.gpu, args.cuda_idx, args.image_size)
        if args.detect_face:
            image = open_image(args.img)
            rects = find_rects(image)
            faces = [image.crop((x, y, x + width, y + height)) for x, y, width, height in rects]
        else:
            faces = [recognize.preprocess.open(args.img)]
    except ImageError as error:
        raise StageError(f"--img {args.img}: {error}") from None
    answers = recognize(faces)
    if args.detect_face:
        answers = [
            {"rect": str(rect), **answer} for rect, answer in zip(rects, answers, strict=True)
        ]
    print(json.dumps(answers, ensure_ascii=False))
    return cli.OK


def find_rects(image) -> list[tuple[int, int, int, int]]:
    """The faces as (x, y, width, height), or, where there are none, the whole image."""
    import numpy as np

    from utils.faces import find_faces
    from utils.images import to_channels

    return find_faces(np.asarray(to_channels(image, 1))) or [(0, 0, *image.size)]


if __name__ == "__main__":
    cli.run(main)
