"""Which classes a model file has, for --help: neither torch nor onnxruntime is imported."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from utils import cli
from utils.inference.model_info import ModelInfo, are_class_names
from utils.inference.model_path import default_model_path, display_path, is_onnx
from utils.inference.onnx_model import METADATA_KEY

PICKLE_BYTES = 1 << 18  # of a model file's description: the classes are at its beginning
PICKLE_BATCH = 1000  # values of a list that pickle writes at a time
PROPERTY_BYTES = 1 << 20  # of an ONNX file's property
METADATA_FIELD = 14  # of ONNX's message ModelProto: metadata_props
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def describe_order(words: list[str]) -> str:
    """Return the order of the classes of the model that a command line uses, as --help ends.

    Return where they stand if the file does not tell them, and an empty text if there is no file.
    """
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--model_path", nargs="?", type=cli.path)
    args, _ = flags.parse_known_args(cli.with_underscores(words))
    path = args.model_path or default_model_path(fast_start=True)
    classes = peek_classes(path)
    if classes:
        return f"the classes of {display_path(path)}, in order: {' '.join(classes)}"
    place = "stand on stderr before the first answer"
    return f"the classes of {path} {place}" if path.is_file() else ""


def peek_classes(path: Path) -> list[str]:
    """Return the classes of a file of train.py or export.py; none if it is any other file."""
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            classes = _classes_in_onnx(file) if is_onnx(path) else _classes_in_zip(file)
    except Exception:  # the file may hold anything, and --help must not fail
        return []
    return classes if are_class_names(classes) else []


def _classes_in_zip(file: BinaryIO) -> list[str]:
    """Return the classes of a file that Checkpoint.save wrote: a ZIP with a pickle."""
    import zipfile  # only for --help

    with zipfile.ZipFile(file) as archive:
        [name] = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as entry:
            return _classes_in_pickle(entry.read(PICKLE_BYTES))


def _classes_in_pickle(content: bytes) -> list[str]:
    """Return the classes of a dictionary that begins with the keys of a Checkpoint.

    Nothing is unpickled, which could run code.
    """
    values = _values(content)
    _, network, _, classes, value = islice(values, 5)
    if (network, classes, value) != ("network", "classes", list):
        return []
    names: list[str] = []
    for value in values:
        if value is list:  # the end of the batch
            return names if len(names) < PICKLE_BATCH else []
        if not isinstance(value, str):
            break
        names.append(value)
    return []


def _values(content: bytes) -> Iterator[object]:
    """Yield the texts of a pickle, `list` where a list begins or ends, None for other things."""
    import pickletools  # only for --help

    memo: dict[Any, object] = {}
    value: object = None
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = value
        elif opcode.name not in ("PROTO", "FRAME", "MARK"):
            value = None
            if opcode.name in ("EMPTY_LIST", "APPENDS"):
                value = list
            elif "UNICODE" in opcode.name:
                value = argument
            elif opcode.name in ("BINGET", "LONG_BINGET"):
                value = memo[argument]
            yield value


def _classes_in_onnx(file: BinaryIO) -> list[str]:
    """Return the classes of a file that export.py wrote. The network is skipped."""
    end = file.seek(0, io.SEEK_END)
    for field, length in _fields(file, end):
        if field == METADATA_FIELD and length <= PROPERTY_BYTES:
            key, value = _read_property(file, length)
            if key == METADATA_KEY:
                return ModelInfo.from_json(value).classes
    return []


def _read_property(file: BinaryIO, length: int) -> tuple[str, str]:
    """Return key and value of ONNX's message StringStringEntryProto, fields 1 and 2."""
    message = io.BytesIO(file.read(length))
    texts = {field: message.read(size).decode("utf-8") for field, size in _fields(message, length)}
    return texts[1], texts[2]


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield number and length of the fields of a message that ends at `end`.

    The file then stands at the field's content, and may be read. Raise ValueError if the file is no
    message of protocol buffers.
    """
    position = file.seek(0)
    while position < end:
        file.seek(position)
        key = _varint(file)
        kind = key & 7
        if kind == VARINT:
            _varint(file)
            length = 0
        elif kind == LENGTH:
            length = _varint(file)
        elif kind in (FIXED32, FIXED64):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("not a protocol buffer")
        position = file.tell() + length
        if position > end:
            raise ValueError("cut off")
        if kind == LENGTH:
            yield key >> 3, length


def _varint(file: BinaryIO) -> int:
    """Return a number of variable length. Raise ValueError if there is none."""
    value = 0
    for shift in range(0, 64, 7):
        [byte] = file.read(1) or [0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("not a number")
