"""The CPU's name, as Linux tells it or not."""

from __future__ import annotations

import platform

import pytest

from utils.inference import cpu as module
from utils.inference.cpu import cpu_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: An EPYC CPU  \nflags\t: x\nmodel name\t: B", "An EPYC CPU"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "aarch64"),
        (None, "aarch64"),
    ],
)  # fmt: skip
def test_cpu_name_is_the_model_of_the_cpu(monkeypatch, tmp_path, text, name):
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    file = tmp_path / "cpuinfo"
    if text:
        file.write_text(text)
    monkeypatch.setattr(module, "Path", lambda _: file)
    assert cpu_name() == name
