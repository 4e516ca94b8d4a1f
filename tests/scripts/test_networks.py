"""Every network through train.py, test.py and emotion.py; and reference checkpoints."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from tests.helpers import one_line_error, run
from tests.reference_networks import REFERENCE_NETWORKS
from tests.trainings import PLAIN_FLAGS
from utils.emotions import EMOTIONS
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("network", "image_size", "image_channel"),
    [
        # Half of them in colour; the other tests train emotionnet in grey.
        ("emotionnet", 48, 3),
        ("resemotionnet", 16, 1),
        ("resnet18", 16, 3),
        ("resnet29", 32, 1),
        ("vgg19", 32, 3),
        ("vgg22", 32, 1),
        ("vgg24", 64, 1),
        ("efficientnet-b4", 32, 3),
        ("efficientnet-b5", 64, 1),
    ],
)
def test_every_network_is_trained_tested_and_used(
    few_faces, tmp_path, network, image_size, image_channel
):
    # sgd without momentum remembers nothing, so that the largest networks' files stay small.
    done = run(
        "train.py", "--model", network, "--image_size", image_size,
        "--image_channel", image_channel, "--data_path", few_faces, "--epochs", 1,
        "--batch_size", 4, "--amp", "off", "--optimizer", "sgd", "--momentum", 0, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    checkpoint = Checkpoint.load(tmp_path / "model.pt")
    assert checkpoint.preprocessing() == Preprocess(image_size, image_channel)
    assert checkpoint.same_padding == network.startswith("efficientnet")
    done = run("test.py", "--data_path", few_faces, cwd=tmp_path)
    assert done.returncode == 0 and "of 4 images" in done.stdout
    done = run("emotion.py", "--img", few_faces / "test/분노/0000.png", cwd=tmp_path)
    [answer] = json.loads(done.stdout)
    assert sum(answer["probs"]) == pytest.approx(100, abs=0.1)


def test_a_reference_checkpoint_is_used_tested_and_trained_on(few_faces, tmp_path):
    build, _, _ = REFERENCE_NETWORKS["resnet18"]
    torch.manual_seed(0)
    reference = build().eval()
    weights = {f"module.{key}": value for key, value in reference.state_dict().items()}
    torch.save({"model": weights, "optimizer": {}}, tmp_path / "old.pt")
    old, data = ("--model_path", "old.pt"), ("--data_path", few_faces)

    face = few_faces / "test/분노/0000.png"
    done = run("emotion.py", *old, "--img", face, cwd=tmp_path)
    with torch.no_grad():
        pixels = torch.from_numpy(Preprocess(48, 1)(Image.open(face)).copy())[None]
        expected = reference(pixels / 255).softmax(1)[0] * 100
    [answer] = json.loads(done.stdout)
    assert answer["probs"] == pytest.approx(expected.tolist(), abs=0.01)
    assert answer["label"] == EMOTIONS[int(expected.argmax())]

    done = run("test.py", *old, *data, "--image_size", 40, cwd=tmp_path)
    assert done.returncode == 0 and "resnet18-original, epoch and accuracy unknown" in done.stdout
    done = run("test.py", *old, *data, "--image_channel", 3, cwd=tmp_path)
    one_line_error(done, "--image_channel 3 contradicts")
    args = (*PLAIN_FLAGS, "--epochs", 1)
    done = run("train.py", "--init", "old.pt", *data, *args, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("resnet18 with ")
    weights.pop("module.conv1.weight")
    torch.save({"model": weights}, tmp_path / "old.pt")
    one_line_error(run("test.py", *old, *data, cwd=tmp_path), "old.pt is not a model")
