"""The model file: what is written, what is refused, and how a model starts from another."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache

import pytest
import torch

import models
from tests.helpers import write_no_model
from tests.reference_networks import REFERENCE_NETWORKS
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint, same_model


@cache
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return models.create("resemotionnet", 2, 1, 48).state_dict()


def make_checkpoint(**changes: object) -> Checkpoint:
    preprocess = Preprocess().to_dict()
    checkpoint = Checkpoint("resemotionnet", ["기쁨", "슬픔"], preprocess, 3, 0.5, weights())
    return replace(checkpoint, **changes)


def test_save_writes_plain_fields_that_load_returns(tmp_path):
    made = make_checkpoint()
    made.save(tmp_path / "m.pt")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    assert set(content) == {
        "network", "classes", "preprocess", "epoch", "val_accuracy", "weights", "version",
    }  # fmt: skip
    assert content["preprocess"] == {"image_size": 48, "image_channel": 1, "resample": "bilinear"}
    loaded = Checkpoint.load(tmp_path / "m.pt")
    images = torch.rand(2, 1, 48, 48)
    torch.testing.assert_close(loaded.build()(images), made.build()(images))
    assert not loaded.build().training


def test_save_that_fails_leaves_the_older_file(tmp_path):
    make_checkpoint().save(tmp_path / "m.pt")
    before = (tmp_path / "m.pt").read_bytes()
    with pytest.raises(Exception, match=r"pickle|local object"):
        make_checkpoint(training={"a": lambda: None}).save(tmp_path / "m.pt")
    assert (tmp_path / "m.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


@pytest.mark.parametrize(
    "change",
    [
        {"network": 5},
        {"network": "nonet"},
        {"classes": ["one"]},
        {"classes": "기쁨"},
        {"classes": ["기쁨", "기쁨"]},
        {"classes": ["기쁨", "\x1b[31m"]},
        {"preprocess": {"image_size": 48}},
        {"preprocess": {"image_size": 10**9, "image_channel": 1, "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": 2, "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": 1, "resample": "magic"}},
        {"preprocess": {"image_size": 48, "image_channel": 1.0, "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": torch.ones(3), "resample": "bilinear"}},
        {"preprocess": {"image_size": 48, "image_channel": 1, "resample": ["bilinear"]}},
        {"weights": {1: torch.ones(1)}},
        {"weights": {"layer1": torch.ones(1)}},
        {"preprocess": {"image_size": "48", "image_channel": 1, "resample": "bilinear"}},
        {"weights": {}},
        {"weights": {"layer1": 5}},
        {"epoch": "3"},
        {"temperature": 0},
        {"temperature": True},
        {"temperature": 10**400},
        {"training": [1]},
        {"tta": "mirror"},
        {"tta": None},
        {"tta": ["none"]},
        {"class_priors": [0.5]},
        {"class_priors": [0.5, 0.5, 0.0]},
        {"class_priors": [0.0, 0.0]},
        {"class_priors": [float("nan"), 0.5]},
        {"class_priors": [1, -1]},
        {"class_priors": torch.ones(2)},
        {"more": 1},
    ],
)
def test_load_or_build_refuses_a_field_of_a_wrong_type_or_value(tmp_path, change):
    checkpoint = make_checkpoint()
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__annotations__}
    torch.save(fields | change, tmp_path / "m.pt")
    with pytest.raises(StageError):
        Checkpoint.load(tmp_path / "m.pt").build()


def test_load_refuses_a_file_without_a_field(tmp_path):
    torch.save({"network": "resemotionnet", "classes": ["a", "b"]}, tmp_path / "m.pt")
    with pytest.raises(StageError, match=r"m\.pt is not a model"):
        Checkpoint.load(tmp_path / "m.pt")


def test_load_takes_a_whole_temperature_for_a_float(tmp_path):
    make_checkpoint(temperature=2).save(tmp_path / "m.pt")
    loaded = Checkpoint.load(tmp_path / "m.pt").temperature
    assert loaded == 2 and type(loaded) is float


@pytest.mark.parametrize("kind", ["random", "text", "evil", "evil pickle", "other", "cut"])
def test_load_refuses_what_is_no_checkpoint_and_runs_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    make_checkpoint().save(tmp_path / "good.pt")
    write_no_model(tmp_path / "m.pt", kind, (tmp_path / "good.pt").read_bytes())
    with pytest.raises(StageError, match=r"m\.pt"):
        Checkpoint.load(tmp_path / "m.pt")
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt", "good.pt"}


def test_load_names_a_missing_file_and_what_to_do(tmp_path):
    with pytest.raises(StageError, match=r"none\.pt: no such file; .*python train\.py"):
        Checkpoint.load(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("flag", "value", "trained"), [("image_size", 96, 48), ("image_channel", 3, 1)]
)
def test_load_refuses_a_flag_that_contradicts_the_model(tmp_path, flag, value, trained):
    make_checkpoint().save(tmp_path / "m.pt")
    Checkpoint.load(tmp_path / "m.pt", **{flag: trained})
    with pytest.raises(StageError, match=f"--{flag} {value} contradicts .*trained with {trained}"):
        Checkpoint.load(tmp_path / "m.pt", **{flag: value})


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_load_reads_other_precisions_as_single(tmp_path, precision):
    halves = {key: w.to(precision) if w.is_floating_point() else w for key, w in weights().items()}
    make_checkpoint(weights=halves).save(tmp_path / "m.pt")
    loaded = Checkpoint.load(tmp_path / "m.pt").weights
    assert all(torch.equal(loaded[key], halves[key].float()) for key in ("fc.weight", "fc.bias"))
    assert loaded["fc.weight"].dtype == torch.float32
    assert loaded["bn1.num_batches_tracked"].dtype == torch.int64


def test_load_reads_a_reference_checkpoint(tmp_path):
    build, _, _ = REFERENCE_NETWORKS["resemotionnet"]
    torch.save({"model": build().state_dict(), "optimizer": {}}, tmp_path / "m.pt")
    checkpoint = Checkpoint.load(tmp_path / "m.pt")
    assert checkpoint.is_reference and checkpoint.classes == list(EMOTIONS)
    assert checkpoint.info().describe() == "resemotionnet, epoch and accuracy unknown"
    assert checkpoint.preprocess["image_size"] == 48
    assert Checkpoint.load(tmp_path / "m.pt", image_size=40).preprocess["image_size"] == 40
    with pytest.raises(StageError, match="--image_channel 3 contradicts"):
        Checkpoint.load(tmp_path / "m.pt", image_channel=3)


@cache
def seven() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return models.create("resemotionnet", 7, 1, 48).state_dict()


def with_prefix(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in seven().items()}


FORMS = {
    "bare": seven,
    "reference": lambda: {"model": seven(), "optimizer": {}},
    "lightning": lambda: {"state_dict": with_prefix("model."), "epoch": 3},
    "tutorial": lambda: {"model_state_dict": seven(), "epoch": 3, "loss": 0.1},
    "several GPUs": lambda: {"model": with_prefix("module.")},
    "compiled": lambda: {"model": with_prefix("_orig_mod.")},
    "both": lambda: {"model": with_prefix("_orig_mod.module.")},
    "the other way": lambda: {"net": with_prefix("module._orig_mod.")},
    "averaged": lambda: {"n_averaged": torch.tensor(4), **with_prefix("module.")},
    "parameters": lambda: {k: torch.nn.Parameter(v, v.ndim > 0) if v.is_floating_point() else v
                           for k, v in seven().items()},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zipped", [True, False])
def test_load_reads_weights_in_any_form(tmp_path, form, zipped):
    torch.save(FORMS[form](), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    checkpoint = Checkpoint.load(tmp_path / "m.pt")
    assert checkpoint.network == "resemotionnet" and checkpoint.classes == list(EMOTIONS)
    assert checkpoint.weights.keys() == seven().keys()
    assert all(torch.equal(weight, seven()[key]) for key, weight in checkpoint.weights.items())
    assert not checkpoint.build().training
    model = models.create("resemotionnet", 2, 1, 48)
    assert checkpoint.transfer_to(model, ["기쁨", "중립"]) == []
    assert torch.equal(model.fc.weight, seven()["fc.weight"][[0, 6]])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_load_reads_wrapped_weights_of_its_own_files(tmp_path, prefix):
    wrapped = {prefix + key: weight for key, weight in weights().items()}
    make_checkpoint(weights=wrapped).save(tmp_path / "m.pt")
    loaded = Checkpoint.load(tmp_path / "m.pt")
    assert loaded.weights.keys() == weights().keys() and loaded.epoch == 3
    loaded.build()


def test_load_says_what_it_assumes_about_weights_alone(tmp_path, capsys):
    torch.save({"model": seven()}, tmp_path / "m.pt")
    Checkpoint.load(tmp_path / "m.pt")
    assert capsys.readouterr().err == (
        f"note: {tmp_path / 'm.pt'} names no network; by its tensors it is resemotionnet; assumed: "
        f"48 pixels (or give --image_size) and the classes {' '.join(EMOTIONS)}\n"
    )
    content = {"model": seven(), "ema": dict(seven()), "classes": list("abcdefg")}
    torch.save(content | {"args": argparse.Namespace()}, tmp_path / "m.pt")
    assert Checkpoint.load(tmp_path / "m.pt", image_size=40).classes == list("abcdefg")
    assert capsys.readouterr().err == (
        f"note: {tmp_path / 'm.pt'} names no network; by its tensors it is resemotionnet; not "
        f"used: ema; not loaded: argparse.Namespace\n"
    )


@pytest.mark.parametrize(
    ("name", "outputs", "key", "classes"),
    [
        ("resemotionnet", 8, "model", None),
        ("resemotionnet", 2, "", None),
        ("resemotionnet", 8, "model", list("abcdefg")),  # one too few
        ("efficientnet-b4", 1000, "", None),  # the classes of ImageNet, perhaps
        ("efficientnet-b4", 1000, "state_dict", None),
    ],
)
def test_load_refuses_classes_that_nobody_names(tmp_path, name, outputs, key, classes):
    state = models.create(name, outputs, 1, 48).state_dict()
    torch.save({key: state, "classes": classes} if key else state, tmp_path / "m.pt")
    message = rf"m\.pt is a {name} for {outputs} classes and does not name them: save it as \{{"
    with pytest.raises(StageError, match=message):
        Checkpoint.load(tmp_path / "m.pt")


@pytest.mark.parametrize("same_padding", [True, False])
def test_a_file_keeps_the_padding_of_its_network(tmp_path, monkeypatch, same_padding):
    asked = []
    real = models.create
    monkeypatch.setattr(models, "create", lambda *words: asked.append(words[4]) or real(*words))
    checkpoint = make_checkpoint(same_padding=same_padding)
    checkpoint.save(tmp_path / "m.pt")
    assert ("same_padding" in torch.load(tmp_path / "m.pt")) is same_padding
    loaded = Checkpoint.load(tmp_path / "m.pt")
    loaded.build()
    assert asked == [same_padding]


def test_load_reads_the_first_outputs_of_the_references_efficientnets(tmp_path):
    state = models.create("efficientnet-b4", 1000, 1, 48).state_dict()
    torch.save({"model": state, "optimizer": {}}, tmp_path / "m.pt")
    checkpoint = Checkpoint.load(tmp_path / "m.pt")
    assert checkpoint.classes == list(EMOTIONS)
    assert torch.equal(checkpoint.weights["_fc.bias"], state["_fc.bias"][:7])


def test_load_takes_the_classes_that_the_file_names(tmp_path):
    state = models.create("resemotionnet", 8, 1, 48).state_dict()
    for names, valid in ((list("abcdefgh"), True), ([*"abcdefg", "\x1b"], False)):
        torch.save({"state_dict": state, "classes": names}, tmp_path / "m.pt")
        if valid:
            assert Checkpoint.load(tmp_path / "m.pt").classes == names
        else:
            with pytest.raises(StageError, match="names classes that no folder can be called"):
                Checkpoint.load(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("more", "image_size", "name"),
    [
        ({}, None, "resnet18-original"),
        ({"optimizer": {}}, 56, "resnet18-original"),
        ({"arch": "vgg19"}, None, "resnet18-original"),
        ({"arch": "resnet18"}, None, "resnet18"),
        ({}, 64, "resnet18"),  # too large for the other
        ({}, 16, "resnet18"),
    ],
)
def test_load_chooses_the_form_of_resnet18_that_is_meant(tmp_path, more, image_size, name):
    state = models.create("resnet18", 7, 1, 48).state_dict()
    torch.save({"model": state, **more}, tmp_path / "m.pt")
    checkpoint = Checkpoint.load(tmp_path / "m.pt", image_size)
    assert checkpoint.network == name
    checkpoint.build()


def test_load_says_to_save_the_state_dict_of_a_whole_network(tmp_path):
    torch.save(models.create("resemotionnet", 7, 1, 48), tmp_path / "m.pt")
    message = r"m\.pt holds a whole pickled network \(models\.resemotionnet\..*state_dict\(\) alone"
    with pytest.raises(StageError, match=message):
        Checkpoint.load(tmp_path / "m.pt")


def test_load_refuses_a_class_in_its_own_files(tmp_path):
    checkpoint = make_checkpoint()
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__annotations__}
    torch.save(fields | {"training": {"x": argparse.Namespace()}}, tmp_path / "m.pt")
    with pytest.raises(StageError, match=r"was refused: .*\(argparse\.Namespace\); nothing in it"):
        Checkpoint.load(tmp_path / "m.pt")


def test_describe_names_network_epoch_and_accuracy():
    assert (
        make_checkpoint().info().describe() == "resemotionnet, epoch 3, validation accuracy 50.000%"
    )


def test_build_refuses_an_image_size_that_the_network_cannot_take():
    small = Preprocess(32, 1).to_dict()
    with pytest.raises(StageError, match="emotionnet takes images of 48 pixels, not 32"):
        make_checkpoint(network="emotionnet", preprocess=small).build()


def test_transfer_to_matches_the_last_layer_by_class_name():
    torch.manual_seed(0)
    old = models.create("resemotionnet", 3, 1, 32).eval()
    preprocess = Preprocess(32, 1).to_dict()
    checkpoint = Checkpoint("resemotionnet", ["a", "b", "c"], preprocess, 1, 0.5, old.state_dict())
    new = models.create("resemotionnet", 2, 1, 32).eval()
    assert checkpoint.transfer_to(new, ["c", "a"]) == []
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(new(images), old(images)[:, [2, 0]])


def test_transfer_to_matches_classes_by_another_name(capsys):
    old = make_checkpoint()
    new = models.create("resemotionnet", 2, 1, 48)
    assert old.transfer_to(new, ["sadness", "0_happy"], "old.pt") == []
    assert torch.equal(new.fc.weight, old.weights["fc.weight"][[1, 0]])
    assert capsys.readouterr().err == (
        "note: old.pt knows the classes by other names: sadness = 슬픔, 0_happy = 기쁨\n"
    )
    with pytest.raises(StageError, match=r"the training: sad and 슬픔 are the same class"):
        old.transfer_to(new, ["sad", "슬픔"])


def test_transfer_to_leaves_the_last_layer_if_a_class_is_unknown():
    new = models.create("resemotionnet", 2, 1, 48)
    before = {key: tensor.clone() for key, tensor in new.state_dict().items()}
    assert make_checkpoint().transfer_to(new, ["기쁨", "놀람"]) == ["놀람"]
    after = new.state_dict()
    assert torch.equal(after["fc.weight"], before["fc.weight"])
    assert torch.equal(after["conv1.weight"], weights()["conv1.weight"])


def test_transfer_to_refuses_weights_of_another_network():
    with pytest.raises(StageError, match="weights are not those of a resemotionnet"):
        make_checkpoint(weights={"x": torch.ones(1)}).transfer_to(
            models.create("resemotionnet", 2, 1, 48), ["기쁨", "슬픔"]
        )


def test_load_returns_views_and_priors_that_save_wrote(tmp_path):
    make_checkpoint(tta="flip", class_priors=[0.25, 0.75]).save(tmp_path / "m.pt")
    loaded = Checkpoint.load(tmp_path / "m.pt")
    assert (loaded.tta, loaded.class_priors) == ("flip", [0.25, 0.75])


def test_same_model_ignores_what_calibration_changes_and_nothing_else(tmp_path, capsys):
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    make_checkpoint().save(one)
    changed = {key: tensor + (key == "fc.bias") for key, tensor in weights().items()}
    for change, same in (
        ({"temperature": 1.5, "tta": "flip"}, True),
        ({"weights": changed}, False),
        ({"classes": ["기쁨", "분노"]}, False),
    ):
        make_checkpoint(**change).save(other)
        assert same_model(one, other) is same_model(other, one) is same
    other.write_bytes(b"broken")
    assert not same_model(one, other)
    torch.save(seven(), other)
    assert not same_model(one, other) and capsys.readouterr().err == ""  # nothing is used
