"""Export of a trained model to a file that runs without this toolkit: ONNX or TorchScript.

The exported network takes `images`, float32 (batch, C, S, S) in [0, 1], and returns its outputs,
float32 (batch, classes), whose softmax, divided by the temperature, is the probabilities. The
file holds the model's description under METADATA_KEY.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from utils import interrupt
from utils.errors import StageError
from utils.imaging.preprocess import Preprocess
from utils.inference.checkpoint import Checkpoint
from utils.inference.model_info import ModelInfo
from utils.inference.onnx_model import BATCH, METADATA_KEY, OnnxModel, log_softmax
from utils.inference.predict import predict_log_probs

OPSET = 17  # of ONNX; onnxruntime 1.13 and newer run it
MAX_DIFFERENCE = 1e-4  # of a probability, from the same network in torch
MIN_HALF_SIZE = 1024  # numbers of a tensor: it does not pay to make smaller ones shorter
CALIBRATION_IMAGES = 512  # whose activations give the scales of int8


def to_torchscript(checkpoint: Checkpoint) -> bytes:
    """Return the model as a TorchScript archive. The description is one of its extra files."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about its future, which --format onnx has
        traced = torch.jit.trace(checkpoint.build(), _example(checkpoint))
        buffer = io.BytesIO()
        extra = {METADATA_KEY: checkpoint.info().to_json()}
        torch.jit.save(traced, buffer, _extra_files=extra)
    return buffer.getvalue()


def to_onnx(checkpoint: Checkpoint) -> bytes:
    """Return the model in ONNX's format, for batches of any size."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about the newer exporter, which needs more packages
        torch.onnx.export(
            checkpoint.build(),
            (_example(checkpoint),),
            buffer,
            input_names=["images"],
            output_names=["outputs"],
            dynamic_axes={"images": {0: "batch"}, "outputs": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return _describe(_pad_early(buffer.getvalue()), checkpoint.info())


def to_half(content: bytes) -> bytes:
    """Return an ONNX model whose weights are stored in 16 bits.

    They become float32 again when it is loaded, so that it is as fast as before.
    """
    onnx = _import_onnx()
    model = onnx.load_from_string(content)
    casts = []
    for tensor in model.graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.size >= MIN_HALF_SIZE:
            name = tensor.name
            stored = onnx.numpy_helper.from_array(weights.astype(np.float16), f"{name}.half")
            tensor.CopyFrom(stored)
            casts.append(
                onnx.helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT)
            )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def to_int8(content: bytes, images: np.ndarray, info: ModelInfo) -> bytes:
    """Return an ONNX model with weights and activations of 8 bits.

    `images`: uint8 (N, C, S, S), like those that it will see; the first CALIBRATION_IMAGES of them
    give the scales.
    """
    with interrupt.importing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._pieces: Iterator[np.ndarray] = (
                images[i : i + BATCH] for i in range(0, min(len(images), CALIBRATION_IMAGES), BATCH)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            piece = next(self._pieces, None)
            return None if piece is None else {"images": Preprocess.to_float(piece)}

    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / f"{name}.onnx" for name in "abc")
        source.write_bytes(content)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, target, Reader(), per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
        )  # fmt: skip
        return _describe(target.read_bytes(), info)


def probs_of(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    """Return the model's own probabilities, float64 (N, classes), for uint8 (N, C, S, S)."""
    return _probs(predict_log_probs(checkpoint.build(), [torch.from_numpy(images)]).numpy())


def exported_probs(path: Path, file_format: str, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of an exported file of a format, float64 (N, classes)."""
    if file_format == "onnx":
        return _probs(OnnxModel(path).log_probs(images))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        network = torch.jit.load(str(path))
        pieces = torch.from_numpy(images).split(BATCH)
        outputs = [network(Preprocess.to_float(piece)).numpy() for piece in pieces]
    return _probs(log_softmax(np.concatenate(outputs)))


def largest_difference(probs: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of a probability; infinity if one is not finite."""
    difference = np.abs(probs - expected).max()
    return float(difference) if np.isfinite(difference) else np.inf


def _probs(log_probs: np.ndarray) -> np.ndarray:
    return np.exp(log_probs.astype(np.float64))


def _example(checkpoint: Checkpoint) -> torch.Tensor:
    """Return a batch of the model's input."""
    return torch.rand(
        2, *checkpoint.preprocessing().shape, generator=torch.Generator().manual_seed(0)
    )


def _pad_early(content: bytes) -> bytes:
    """Return an ONNX model in which no MaxPool follows a padding with zeros: PReLU stands between.

    The order makes no difference, as PReLU of 0 is 0. But before 1.32, onnxruntime makes such a
    padding a part of the MaxPool, which pads with the least value instead of 0: wrong answers
    wherever all values are negative.
    """
    onnx = _import_onnx()
    model = onnx.load_from_string(content)
    nodes = model.graph.node
    maker = {name: node for node in nodes for name in node.output}
    for pool in [node for node in nodes if node.op_type == "MaxPool"]:
        pad = maker.get(pool.input[0])
        activation = maker.get(pad.input[0]) if pad and pad.op_type == "Pad" else None
        if not pad or not activation or activation.op_type != "PRelu":
            continue
        pad.input[0], activation.input[0] = activation.input[0], activation.output[0]
        pad.output[0], activation.output[0] = activation.output[0], pad.output[0]
        moved = onnx.NodeProto()
        moved.CopyFrom(activation)
        nodes.remove(activation)
        nodes.insert(list(nodes).index(pad) + 1, moved)
    return model.SerializeToString()


def _describe(content: bytes, info: ModelInfo) -> bytes:
    """Return an ONNX model with its description. Raise StageError if onnx is not installed."""
    onnx = _import_onnx()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    return model.SerializeToString()


def _import_onnx() -> ModuleType:
    """Return the package onnx. Raise StageError if it is not installed."""
    with interrupt.importing():
        try:
            import onnx
            import onnx.numpy_helper
        except ImportError as error:
            raise StageError(f"--format onnx needs onnx ({error}): pip install onnx") from None
    return onnx
