"""A model in ONNX's format, run by onnxruntime. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils import __version__, interrupt
from utils.console import ProgressBar
from utils.errors import StageError, describe_os_error
from utils.imaging.preprocess import Preprocess
from utils.inference.cpu import cpu_name
from utils.inference.model_info import ModelInfo
from utils.metrics import scale

METADATA_KEY = "facial_expression_model"  # of the description, as JSON
BATCH = 32  # images at a time: more are not faster, and take more memory
VIEWS = ("none", "flip")


class OnnxModel:
    """A trained network in an ONNX file that export.py wrote.

    Its methods are described in `face_classifier.Model`.
    """

    parameters = None  # an ONNX file does not tell the number

    def __init__(
        self, path: Path, image_size: int | None = None, image_channel: int | None = None
    ) -> None:
        """Load the file.

        Raise StageError if it is not a model of export.py, or was trained with another
        `image_size` or `image_channel` than given.
        """
        with interrupt.importing():
            try:
                import onnxruntime
            except ImportError as error:
                raise StageError(
                    f"{path} needs onnxruntime ({error}): pip install onnxruntime"
                ) from None
        self._version: str = onnxruntime.__version__
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise StageError(f"{path}: no such file; python export.py writes one") from None
        except OSError as error:
            raise StageError(describe_os_error(error)) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal errors alone: the others are raised, too
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            metadata = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # onnxruntime documents none for broken files
            reason = " ".join(str(error).split())
            raise StageError(f"{path} is not an ONNX file that can be run: {reason}") from None
        try:
            self.info = ModelInfo.from_json(metadata[METADATA_KEY])
        except (KeyError, ValueError):
            raise StageError(
                f"{path} does not describe its model as export.py does: export it again"
            ) from None
        self._check(path)
        self.info.check_input(path, image_size, image_channel)

    def log_probs(
        self,
        images: np.ndarray,
        tta: str = "none",
        batch_size: int = BATCH,  # noqa: ARG002
        description: str = "",
    ) -> np.ndarray:
        """Return log-probabilities float64 (N, classes), uncalibrated, for uint8 (N, C, S, S).

        Raise StageError for a `tta` that is none of VIEWS, or if an output is NaN. The batches have
        BATCH images, whatever `batch_size` says.
        """
        if tta not in VIEWS:
            raise StageError(f"--tta {tta} needs the model as a .pt file, not as ONNX")
        pieces = []
        with ProgressBar(len(images), description, "image", leave=False) as bar:
            for start in range(0, len(images), BATCH):
                pieces.append(self._log_probs(images[start : start + BATCH], tta))
                bar.update(len(pieces[-1]))
        result = np.concatenate(pieces)
        if np.isnan(result).any():
            raise StageError("the model's outputs are NaN: train or export it again")
        return result

    def environment(self) -> dict[str, str | int]:
        """Return what may change a result besides flags and data."""
        return {"onnxruntime": self._version, "toolkit": __version__, "device": cpu_name()}

    def check_calibration(self, path: Path) -> None:
        """Raise StageError: the file is written once."""
        raise StageError(f"--calibrate {path}: calibrate the .pt file, and export it again")

    def save_calibration(self, path: Path, info: ModelInfo) -> None:  # noqa: ARG002
        """Raise StageError as `check_calibration` does."""
        self.check_calibration(path)

    def _log_probs(self, images: np.ndarray, tta: str) -> np.ndarray:
        inputs = Preprocess.to_float(images)
        if tta == "none":
            return log_softmax(self._run(inputs))
        views = log_softmax(self._run(np.concatenate([inputs, inputs[..., ::-1]])))
        return np.logaddexp(*np.split(views, 2)) - np.log(2)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"images": inputs})[0]

    def _check(self, path: Path) -> None:
        """Raise StageError if the network's inputs or outputs are not those described."""
        [*inputs], [*outputs] = self._session.get_inputs(), self._session.get_outputs()
        shape = list(self.info.preprocessing().shape)
        is_described = (
            [(entry.name, entry.shape[1:]) for entry in inputs] == [("images", shape)]
            and len(outputs) == 1
            and outputs[0].shape[1:] == [len(self.info.classes)]
        )
        if not is_described:
            raise StageError(f"{path} is not the network that it describes: export it again")


def log_softmax(outputs: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities, float64 (N, classes), for a network's outputs."""
    return scale(outputs.astype(np.float64), temperature=1.0)
