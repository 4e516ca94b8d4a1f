"""Memory that a process keeps for its next large arrays."""

from __future__ import annotations

import ctypes
import os
import runpy
import subprocess
import sys

import pytest
from PIL import Image

from tests.helpers import ROOT
from utils import memory
from utils.errors import StageError

# Bytes, and how often: small enough for a test, large enough that glibc maps each of them.
SIZE, ROUNDS = 40 << 20, 4
COUNT_FAULTS = f"""
import resource
from utils import memory

print(memory.keep_freed_memory())
bytearray({SIZE})  # the memory to keep
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    bytearray({SIZE})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture
def calls(monkeypatch):
    """The calls of mallopt, which is not really called; on any system, as if it were Linux."""

    class Library:
        mallopt = staticmethod(lambda *arguments: found.append(arguments) or 1)

    found = []
    monkeypatch.setattr(memory, "_is_kept", False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    return found


def test_sets_mmap_and_trim(calls):
    assert not memory.is_freed_memory_kept()
    assert memory.keep_freed_memory()
    assert calls == [(-4, 0), (-1, -1)]
    assert memory.is_freed_memory_kept()


def test_sets_the_most_that_is_kept(calls):
    assert memory.keep_freed_memory(at_most=1 << 27)
    assert calls == [(-3, 32 << 20), (-1, 1 << 27)]


@pytest.mark.parametrize("name", memory.VARIABLES)
def test_a_users_setting_stays(calls, monkeypatch, name):
    monkeypatch.setenv(name, "1000000")
    assert not memory.keep_freed_memory()
    assert not calls


@pytest.mark.parametrize(
    ("tunables", "is_set"),
    [("glibc.malloc.trim_threshold=128", False), ("glibc.cpu.x86_ibt=on", True), ("", True)],
)
def test_tunables_of_malloc_stay(calls, monkeypatch, tunables, is_set):
    monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    assert memory.keep_freed_memory() is is_set


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(calls, monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert not memory.keep_freed_memory()
    assert not calls


@pytest.mark.parametrize("library", [object(), OSError("no dynamic linker")])
def test_a_c_library_without_mallopt(calls, monkeypatch, library):
    def load(_name):
        if isinstance(library, OSError):
            raise library
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not memory.keep_freed_memory()


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("train.py", ["--data_path", "missing"]),
        ("test.py", ["--model_path", "missing.pt"]),
        ("emotion.py", ["face.png", "--model_path", "missing.pt"]),
    ],
)
def test_scripts_with_large_batches_keep_their_memory(script, flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (48, 48)).save("face.png")
    called = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: called.append(script))
    monkeypatch.setattr(sys, "argv", [script, *flags])
    with pytest.raises(StageError, match="missing"):
        runpy.run_path(str(ROOT / script), run_name="script")["main"]()
    assert called == [script]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
def test_freed_memory_is_used_again():
    env = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    is_set, faults = done.stdout.split()
    if is_set == "False":
        pytest.skip("not with this C library")
    pages = SIZE // 4096
    assert int(faults) < pages / 10  # without it: ROUNDS * pages, in pages of 4 KiB
