"""The rooms: tests mirror them, imports go one way, are cheap and have no side effects."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers import ROOT

# What the files of each room may import, besides those of the same room.
MAY_IMPORT = {
    "ground": set(),
    "models": set(),
    "imaging": {"ground"},
    "pages": {"imaging", "ground"},
    "data": {"pages", "imaging", "ground"},
    "inference": {"imaging", "ground", "models"},
    "training": {"data", "inference", "pages", "imaging", "models", "ground"},
    "evaluation": {"data", "inference", "pages", "imaging", "ground"},
    "recognition": {"inference", "imaging", "ground"},
}
SCRIPTS = sorted(ROOT.glob("*.py"))
MODULES = sorted([*ROOT.glob("utils/**/*.py"), *ROOT.glob("models/**/*.py")])
KEPT_VARIABLES = ("PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "TEMP", "TMP")
HEAVY = (
    "torch", "torchvision", "onnx", "onnxruntime", "cv2", "matplotlib", "scipy", "pandas",
    "requests", "jinja2",
)  # fmt: skip


def name_of(path: Path) -> str:
    """The name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "utils":
        return parts[1] if (ROOT / "utils" / parts[1]).is_dir() else "ground"
    return parts[0]


def nodes_of(node: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    """Every node of a syntax tree, those within functions only if `lazy`."""
    for child in ast.iter_child_nodes(node):
        yield child
        if lazy or not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield from nodes_of(child, lazy)


@cache
def imports_of(path: Path, lazy: bool = True) -> frozenset[str]:
    """Every module of this project that a file imports, within its functions too if `lazy`."""
    ours = {name_of(module) for module in [*MODULES, *SCRIPTS]}
    found = set()
    for node in nodes_of(ast.parse(path.read_text(encoding="utf-8")), lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & ours
            if members - ours:
                found.add(node.module or "")
    return frozenset(found & ours)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path):
    if name_of(path) == "utils":
        pytest.skip("the ground's docstring and version")
    room = room_of(name_of(path))
    imported = {room_of(module) for module in imports_of(path) if module != "utils"}
    assert imported <= MAY_IMPORT[room] | {room}


def test_imports_make_no_circle():
    modules = {name_of(path): imports_of(path, lazy=False) for path in MODULES}
    order = list(TopologicalSorter(modules).static_order())  # raises CycleError
    assert set(modules) <= set(order)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_do_not_import_each_other(path):
    assert not imports_of(path) & {name_of(script) for script in SCRIPTS}


@pytest.mark.parametrize("path", sorted(ROOT.glob("utils/*/__init__.py")), ids=name_of)
def test_rooms_hold_a_docstring_only(path):
    docstring, *rest = ast.parse(path.read_text(encoding="utf-8")).body
    names = {"Recognizer"} if path.parent.name == "recognition" else set()  # for users' programs
    assert {alias.name for node in rest[:1] for alias in node.names} == names
    assert len(rest) == 2 * len(names)
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    assert isinstance(docstring.value.value, str)


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name != "__init__.py"], ids=name_of
)
def test_every_module_has_a_test_file(path):
    parts = path.relative_to(ROOT).parts
    folder = "/".join(parts[1:-1] if len(parts) > 2 else parts[:-1])  # rooms stand below utils/
    assert (ROOT / "tests" / folder / f"test_{path.name}").exists()


def run_fresh(code: str, *args: str) -> str:
    """Run code in a fresh process in the project's folder. Return what it prints.

    Its environment is a small one: this process has imported the project already.
    """
    env = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    words = [sys.executable, "-c", code, *args]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


SHOW_HELP = """
import contextlib, io, json, runpy, sys
for script in sys.argv[2:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as help, contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    heavy = [name for name in HEAVY if name in sys.modules]
    print(json.dumps([script, help.getvalue(), heavy]))
"""


def test_help_shows_examples_and_imports_nothing_heavy():
    code = f"HEAVY = {HEAVY}{SHOW_HELP}"
    lines = run_fresh(code, "--", *(script.name for script in SCRIPTS)).splitlines()
    shown = [json.loads(line) for line in lines]
    assert [script for script, _, _ in shown] == [script.name for script in SCRIPTS]
    for script, help_text, heavy in shown:
        assert f"  python {script}" in help_text, f"the help of {script} has no example"
        assert heavy == [], f"{script} or one before it imports them"


@pytest.mark.parametrize("module", ["utils.data.decode", "utils.imaging.preprocess", "cropImages"])
def test_workers_import_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_fresh(code) == "[]\n"


@pytest.mark.parametrize("module", ["cropImages", "downloadImage"])
def test_stages_of_photos_start_without_numpy(module):
    assert run_fresh(f"import sys, {module}; print('numpy' in sys.modules)") == "False\n"


IMPORT_ALL = """
import importlib, json, os, sys, warnings
import PIL.Image

libraries, modules = json.loads(sys.argv[1])
for name in libraries:
    importlib.import_module(name)

def state():
    return PIL.Image.MAX_IMAGE_PIXELS, list(warnings.filters), dict(os.environ)

before = state()
for name in modules:
    importlib.import_module(name)
    if state() != before:
        sys.exit(f"{name} changes the process when it is imported")
print(len(modules))
"""


def libraries() -> list[str]:
    """The modules of other projects that ours import when they are imported."""
    found = set()
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module)
    own_or_standard = {"utils", "models", *sys.stdlib_module_names}
    return sorted(name for name in found if name.split(".")[0] not in own_or_standard)


@pytest.mark.slow
def test_imports_change_nothing_in_the_process():
    modules = [name_of(path) for path in MODULES]
    printed = run_fresh(IMPORT_ALL, json.dumps([libraries(), modules]))
    assert printed == f"{len(modules)}\n"
