"""Reading a file of torch.save without running code from it, and saying why one cannot be read."""

from __future__ import annotations

import errno
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.serialization import safe_globals

from utils.errors import StageError, describe_os_error

MAX_UNLOADED = 100  # classes in a file
HEAD = 1024  # bytes at the beginning of a file, by which its format is told
TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # how files of torch before 1.6 begin
ZIP = b"PK\x03\x04"
SAVE = 'torch.save(model.state_dict(), "model.pt")'
SAVE_WEIGHTS = f"which can run code: save its state_dict() alone, {SAVE}"
# How torch fails on an object that its stand-in does not fit, rather than at the end of a file.
MISFITS = (pickle.UnpicklingError, TypeError, AttributeError, ValueError)
NO_MODEL = "is not a model file: torch.save did not write it"
OTHER_FORMATS = {  # by their first bytes
    b"\x80": f"is a pickle that torch.save did not write; save the weights with {SAVE}",
    b"version https://git-lfs": "is a pointer of Git LFS, not the model: run git lfs pull",
    b"\x89HDF": "is an HDF5 file (Keras): only PyTorch's weights are read",
    b"\x1f\x8b": "is a gzip archive: unpack it",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"Rar!": "is a RAR archive: unpack it",
    b"\xfd7zXZ": "is an xz archive: unpack it",
}


class ModelFile(NamedTuple):
    """What a file of torch.save holds."""

    content: Any
    unloaded: list[str]  # classes of the objects in it that were not loaded
    module: str | None  # the class of a whole network among them

    def whole_network(self) -> str:
        """Return what to do about a file of a whole network. The text follows the file's name."""
        return f"holds a whole pickled network ({self.module}), {SAVE_WEIGHTS}"


class _Unloaded:
    """Stands for an object whose class is not loaded. It keeps nothing and does nothing."""

    name: str
    container: type | None  # of what the object is: torch adds items to nothing else
    modules: list[str]  # shared: the classes of networks so far

    def __new__(cls, *_args: object) -> Any:
        """Return an object without a content, or an empty container."""
        return cls.container() if cls.container else super().__new__(cls)

    def __init__(self, *_args: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys():
            self.modules.append(self.name)


def read_model_file(path: Path) -> ModelFile:
    """Return the content of a file of torch.save. No code from it is run, and no class loaded.

    Raise StageError, which says what to do, if it cannot be read.
    """
    unloaded: dict[str, type | None] = {}  # class → the container that its objects are
    while True:
        modules: list[str] = []
        try:
            stand_ins = [_stand_in(name, kind, modules) for name, kind in unloaded.items()]
            with warnings.catch_warnings(), safe_globals(stand_ins):
                warnings.simplefilter("ignore")  # about formats that `_explain` names
                content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise StageError(
                f"{path}: no such file; train one with python train.py, or name one with "
                f"--model_path"
            ) from None
        except Exception as error:  # torch documents no exceptions for broken files
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek in a short file
                raise StageError(describe_os_error(error)) from None
            name, container = _unloaded_class(error)
            tried = name in unloaded and unloaded[name] == container
            if not name or tried or len(unloaded) == MAX_UNLOADED:
                raise StageError(f"{path} {_explain(path, error, [*unloaded])}") from None
            unloaded[name] = container
        else:
            # A network is complete after the modules in it: the last one is the whole.
            return ModelFile(content, sorted(unloaded), modules[-1] if modules else None)


def _stand_in(name: str, container: type | None, modules: list[str]) -> type[_Unloaded]:
    """Return a class that torch takes for the one of this name, by its module and name."""
    module, _, short_name = name.rpartition(".")
    members = {"__module__": module, "name": name, "container": container, "modules": modules}
    return type(short_name, (_Unloaded,), members)


def _unloaded_class(error: Exception) -> tuple[str, type | None]:
    """Return the class or function that made torch refuse a file, and the container that it is.

    An empty name: the file was refused for another reason.
    """
    text = str(error) if isinstance(error, pickle.UnpicklingError) else ""
    if match := re.search(r"GLOBAL (\S+) was not an allowed global", text):
        return match[1] if "." in match[1] else f"builtins.{match[1]}", None
    # Objects of a subclass of dict or list get their items.
    if match := re.search(r"Can only (SETITEM|append).* but got <class '(.+)'>", text):
        return match[2], OrderedDict if match[1] == "SETITEM" else list
    return "", None


def _explain(path: Path, error: Exception, unloaded: list[str]) -> str:
    """Return why a file cannot be read, and what to do. The text follows the file's name."""
    if blocked := re.search(r"unsupported GLOBAL (\S+) whose module", str(error)):
        return f"was refused: it would run {blocked[1]}; nothing in it was run, do not trust it"
    if "can't allocate memory" in str(error):
        return "does not fit into the memory"
    if "persistent_load of storage" in str(error):  # files of torch before 1.6 name its code, too
        return f"holds a whole pickled network, {SAVE_WEIGHTS}"
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(ZIP):
        return _explain_zip(path, size, unloaded)
    if head.startswith(TORCH_MAGIC):
        is_whole = unloaded and isinstance(error, MISFITS)
        return _explain_objects(unloaded) if is_whole else _explain_loss(size)
    return _explain_format(path, head, size) or NO_MODEL


def _explain_format(path: Path, head: bytes, size: int) -> str | None:
    """Return what a file is that torch.save did not write, or None if it is not known."""
    for start, explanation in OTHER_FORMATS.items():
        if head.startswith(start):
            return explanation
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it"
    if not head.strip(b"\0"):
        return f"{'begins with zeros alone' if head else 'is empty'}: download or copy it again"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is an HTML page, not a model: open the address in a browser, download the file"
    if path.suffix == ".safetensors" or _is_safetensors(head, size):
        return (
            "is a safetensors file, which is not read; convert it with "
            f'torch.save(safetensors.torch.load_file("{path.name}"), "model.pt")'
        )
    if path.suffix == ".onnx":
        return f"is an ONNX file, which is not read; save the network with {SAVE}"
    return None


def _explain_zip(path: Path, size: int, unloaded: list[str]) -> str:
    if not zipfile.is_zipfile(path):  # its list of members, at the end, is missing
        return _explain_loss(size)
    with zipfile.ZipFile(path) as file:
        members = [name.partition("/")[2] for name in file.namelist()]
    if "constants.pkl" in members:
        return (
            "is a TorchScript archive, which is not read; save its weights with "
            f'torch.save(torch.jit.load("{path.name}").state_dict(), "model.pt")'
        )
    if "data.pkl" not in members:
        return "is a zip archive, not a model: unpack it"
    return _explain_objects(unloaded) if unloaded else _explain_loss(size)


def _explain_objects(unloaded: list[str]) -> str:
    return f"holds objects ({', '.join(unloaded)}) that cannot be left out, {SAVE_WEIGHTS}"


def _explain_loss(size: int) -> str:
    return f"is truncated or damaged ({size:,} bytes): download or copy it again"


def _is_safetensors(head: bytes, size: int) -> bool:
    """Return whether a file begins as safetensors do: the length of JSON, then the JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size
