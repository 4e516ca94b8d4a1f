"""The checkpoint: a trained model in one file of plain tensors, strings and numbers.

It holds all that testing and prediction need, so that no flag of the training has to be repeated.
torch reads it with `weights_only`, which never runs code from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import models
from models.legacy import NUM_CLASSES, UNTRIMMED_OUTPUTS, default_image_size, unwrap
from utils import __version__
from utils.class_names import describe_other_names, match_classes
from utils.console import note
from utils.emotions import EMOTIONS
from utils.errors import StageError
from utils.files import atomic_file
from utils.imaging.preprocess import Preprocess
from utils.inference.model_file import ModelFile, read_model_file
from utils.inference.model_info import ModelInfo
from utils.inference.state_dicts import FoundWeights, StateDictError, find_weights

# Fields that are not in the file if they have the value that they get without.
OPTIONAL = ("temperature", "training", "tta", "class_priors", "balance", "same_padding", "face")
REFERENCE_PLACE = "model"  # of the weights in a checkpoint of the reference implementation


@dataclass(frozen=True)
class Checkpoint:
    """The content of a model file. The field names are the keys in the file.

    A file of weights alone, by the reference implementation or any other program, has neither
    epoch nor accuracy.
    """

    network: str  # registered name in models
    classes: list[str]  # in the order of the network's outputs
    preprocess: dict[str, Any]  # arguments of Preprocess: image_size, image_channel, resample
    epoch: int | None  # of the weights, from 1; None: not known
    val_accuracy: float | None  # in [0, 1], after that epoch; None: not known
    weights: dict[str, torch.Tensor]  # the network's state_dict
    temperature: float | None = None  # divides the outputs; None: not calibrated
    training: dict[str, Any] | None = None  # only in a run's last.pt: the state to resume from
    tta: str = "none"  # of TTA: the views of each image on which to predict
    # Of the training images, in the order of the classes, sum 1; None: not known.
    class_priors: list[float] | None = None
    balance: float = 0.0  # strength of the logit adjustment, see `ModelInfo.probabilities`
    # Whether an EfficientNet pads for its image size, else for its library's (see `models.create`).
    same_padding: bool = False
    # Arguments of FaceGeometry: what the network sees of a detected face; None: the defaults.
    face: dict[str, Any] | None = None
    version: str = __version__  # of the toolkit that wrote the file

    def save(self, path: Path) -> None:
        """Write the file whole or not at all. Raise OSError if the disk is full, for instance."""
        content = {field: getattr(self, field) for field in self.__annotations__}
        for field in OPTIONAL:
            if content[field] in (None, "none", False, 0.0):
                del content[field]
        with atomic_file(path) as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # torch raises it if a write fails
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    @classmethod
    def load(
        cls, path: Path, image_size: int | None = None, image_channel: int | None = None
    ) -> Checkpoint:
        """Read a file that `save` wrote, or the weights of a network from any other program.

        Weights alone do not tell the image size: it is `image_size`, or else the network's default
        (see `models.legacy`). Raise StageError if there are no weights of a known network, or if
        the model was trained with another `image_size` or `image_channel` than given. Print a note
        about what is assumed.
        """
        checkpoint, assumption = cls._load(path, image_size, image_channel)
        if assumption:
            note(assumption)
        return checkpoint

    @classmethod
    def _load(
        cls, path: Path, image_size: int | None = None, image_channel: int | None = None
    ) -> tuple[Checkpoint, str]:
        """Return the model of a file, and what is assumed about it, in words. See `load`."""
        file, assumption = read_model_file(path), ""
        if _is_described(file.content):
            checkpoint = cls._from_description(file, path)
        else:
            checkpoint, assumption = cls._from_weights(file, path, image_size)
        weights = {key: _to_float32(weight) for key, weight in checkpoint.weights.items()}
        checkpoint = replace(checkpoint, weights=dict(unwrap(weights)))
        checkpoint.info().check_input(path, image_size, image_channel)
        return checkpoint, assumption

    @classmethod
    def _from_description(cls, file: ModelFile, path: Path) -> Checkpoint:
        """Return the model of a file that `save` wrote. Raise StageError if it was changed."""
        if file.unloaded:
            raise StageError(
                f"{path} was refused: it holds more than tensors, strings and numbers "
                f"({', '.join(file.unloaded)}); nothing in it was run"
            )
        try:
            checkpoint = cls(**file.content)
            if type(checkpoint.temperature) is int:  # a file that another program wrote
                checkpoint = replace(checkpoint, temperature=float(checkpoint.temperature))
            checkpoint._check()
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise StageError(
                f"{path} is not a model that this toolkit trained: a field is missing, or wrong"
            ) from None
        return checkpoint

    @classmethod
    def _from_weights(
        cls, file: ModelFile, path: Path, image_size: int | None
    ) -> tuple[Checkpoint, str]:
        """Return the model of a file that names no network, and what is assumed about it, in words.

        Raise StageError if its weights are those of no known network.
        """
        try:
            found = find_weights(file.content)
        except StateDictError as error:
            reason = file.whole_network() if file.module else error
            raise StageError(f"{path} {reason}") from None
        found = _name_classes(found, path)
        name, classes = _network_name(found, file.content, image_size), found.classes or []
        size = image_size or default_image_size(name)
        preprocess = Preprocess(size, found.weights.image_channel).to_dict()
        checkpoint = cls(name, classes, preprocess, None, None, found.weights.tensors)
        try:
            checkpoint._check()
        except ValueError:
            raise StageError(f"{path} names classes that no folder can be called") from None
        assumed = [] if image_size else [f"{size} pixels (or give --image_size)"]
        assumed += [f"the classes {' '.join(classes)}"] * (classes == list(EMOTIONS))
        parts = [f"{path} names no network; by its tensors it is {name}"]
        parts += [f"assumed: {' and '.join(assumed)}"] * bool(assumed)
        parts += [f"not used: {', '.join(found.others)}"] * bool(found.others)
        parts += [f"not loaded: {', '.join(file.unloaded)}"] * bool(file.unloaded)
        return checkpoint, "; ".join(parts)

    def _check(self) -> None:
        """Raise ValueError if a field has a wrong type or value: the file may be anybody's."""
        self.info()
        valid = (
            isinstance(self.weights, dict)
            and all(isinstance(key, str) for key in self.weights)
            and all(isinstance(weight, torch.Tensor) for weight in self.weights.values())
            and isinstance(self.training, dict | None)
            and isinstance(self.same_padding, bool)
        )
        if not valid:
            raise ValueError

    def info(self) -> ModelInfo:
        """Return all but the weights and the training. Raise ValueError if a value is wrong."""
        return ModelInfo(
            self.network, self.classes, self.preprocess, self.epoch, self.val_accuracy,
            self.temperature, self.tta, {} if self.face is None else self.face, self.class_priors,
            self.balance, self.version,
        )  # fmt: skip

    def preprocessing(self) -> Preprocess:
        """Return the preprocessing that the model was trained with."""
        return Preprocess(**self.preprocess)

    def build(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode and channels_last.

        Raise StageError if the network is unknown, or if the weights are not those of the network.
        """
        preprocess = self.preprocessing()
        try:
            name = models.full_name(self.network)
            model = models.create(
                name, len(self.classes), preprocess.image_channel, preprocess.image_size,
                self.same_padding,
            )  # fmt: skip
        except models.NetworkError as error:
            raise StageError(str(error)) from None
        try:
            model.load_state_dict(self.weights)
        except Exception:  # the file may be broken in any way
            raise StageError(f"the checkpoint's weights are not those of a {name}") from None
        return model.eval().to(memory_format=torch.channels_last)

    def outputs_of(self, classes: list[str], path: object) -> dict[str, int]:
        """Return class → its output, for those of `classes` that the model of the file knows.

        A note names the classes that it knows by another name. Raise StageError if two of them are
        one class of the model.
        """
        known = match_classes(classes, self.classes, "the training")
        if pairs := describe_other_names(known):
            note(f"{path} knows the classes by other names: {pairs}")
        return {name: self.classes.index(other) for name, other in known.items()}

    def transfer_to(
        self, model: nn.Module, classes: list[str], path: object = "the checkpoint"
    ) -> list[str]:
        """Load these weights into a new model of the same network, to train it for `classes`.

        Match the outputs of the last layer by class name. Return the classes that this checkpoint
        does not know: if there are any, the whole last layer keeps its random weights. `path` is
        the file's, for messages.

        Raise StageError if the weights are not those of the network.
        """
        weights = dict(self.weights)
        outputs = self.outputs_of(classes, path)
        unknown = [name for name in classes if name not in outputs]
        rows = None if unknown else [outputs[name] for name in classes]
        new_weights = model.state_dict()
        try:
            for key in models.head(self.network):
                weights[key] = new_weights[key] if rows is None else weights[key][rows]
            model.load_state_dict(weights)
        except Exception:  # the file may be broken in any way
            raise StageError(
                f"the checkpoint's weights are not those of a {self.network}"
            ) from None
        return unknown

    @property
    def is_reference(self) -> bool:
        """Whether it came from weights alone, as those of the reference implementation."""
        return self.epoch is None or self.val_accuracy is None


def same_model(one: Path, other: Path) -> bool:
    """Return whether two files hold the same network, weights and classes.

    What test.py --calibrate keeps in a file may differ: temperature, tta and balance. A file that
    cannot be read is not the same.
    """
    try:
        a, b = Checkpoint._load(one)[0], Checkpoint._load(other)[0]
    except StageError:
        return False
    return (
        (a.network, a.classes, a.weights.keys()) == (b.network, b.classes, b.weights.keys())
        and all(torch.equal(weight, b.weights[key]) for key, weight in a.weights.items())
    )  # fmt: skip


def _is_described(content: object) -> bool:
    """Return whether a file's content has the keys that `save` writes."""
    return (
        isinstance(content, dict)
        and {"network", "weights"} <= content.keys()
        and not isinstance(content["network"], Mapping | torch.Tensor)
    )


def _network_name(found: FoundWeights, content: object, image_size: int | None) -> str:
    """Return the network of the weights, of two with the same tensors the one that is meant.

    That is the form of the reference implementation, unless the file names the other one under
    `arch`, as PyTorch's examples do, or the image size is one that only the other takes.
    """
    name = found.weights.network
    other = name.removesuffix("-original")
    is_named = isinstance(content, Mapping) and content.get("arch") == other
    takes_size = image_size is None or models.NETWORKS[name].takes(image_size)
    return name if takes_size and not is_named else other


def _name_classes(found: FoundWeights, path: Path) -> FoundWeights:
    """Return the weights with the names of their classes. Raise StageError if nobody knows them."""
    weights = found.weights
    if found.classes is not None and len(found.classes) == weights.outputs:
        return found
    if weights.outputs == UNTRIMMED_OUTPUTS and found.place == REFERENCE_PLACE:
        weights = weights.first_outputs(NUM_CLASSES)
    if weights.outputs == len(EMOTIONS):
        return found._replace(weights=weights, classes=list(EMOTIONS))
    raise StageError(
        f"{path} is a {weights.network} for {weights.outputs} classes and does not name them: save "
        f'it as {{"classes": [their names, in order], "state_dict": model.state_dict()}}'
    )


def _to_float32(weight: torch.Tensor) -> torch.Tensor:
    """Return a floating-point weight in single precision, others as they are."""
    return weight.detach().float() if weight.is_floating_point() else weight
