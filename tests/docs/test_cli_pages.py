"""The pages of flags are current, and both languages have the same pages, flags and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate_cli
from utils.errors import StageError

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def korean_of(page: Path) -> Path:
    """Return where the Korean form of a page is."""
    if page.parent == ROOT:
        return page.with_suffix(".ko.md")
    return page.parent / "ko" / page.name


def code_of(page: Path) -> str:
    """Return a page's code blocks and inline code."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```.*?^```", text, re.M | re.S)
    inline = re.findall(r"`[^`\n]+`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return "\n".join([*blocks, *inline])


def flags_in(page: Path) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*", code_of(page)))


def commands_in(page: Path) -> set[str]:
    return set(re.findall(r"python \w+\.py", code_of(page)))


@pytest.mark.parametrize(
    "path", [generate_cli.ENGLISH.path, generate_cli.KOREAN.path], ids=["english", "korean"]
)
def test_cli_page_is_current(path):
    assert generate_cli.read(path) == generate_cli.pages()[path], "run python -m docs.generate_cli"


def test_links_between_pages_and_to_pictures_lead_to_files():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
    missing = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing


def test_every_page_exists_in_both_languages():
    korean = {path.name for path in (ROOT / "docs/ko").glob("*.md")}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == korean
    assert korean_of(ROOT / "README.md").exists()


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.name)
def test_both_languages_name_the_same_flags_and_commands(page):
    korean = korean_of(page)
    assert flags_in(page) == flags_in(korean)
    assert commands_in(page) == commands_in(korean)


# Other spellings, and flags of torchrun, npm and the modules beside the scripts.
OTHER_FLAGS = {
    "--help",
    "--no_flip",
    "--data-path",
    "--nproc_per_node",
    "--classes",
    "--only_print",
    "--recipes",
    "--port",
    "--prefix",
    "--omit",
    "--folder",
    "--predictions",
    "--to",
}
# These pages are mostly about other programs: benchmarks, Ray, SLURM.
OTHER_PAGES = ("benchmarks.md", "distributed.md")


@pytest.mark.parametrize(
    "page", [page for page in ENGLISH if page.name not in OTHER_PAGES], ids=lambda page: page.name
)
def test_every_flag_in_a_page_exists(page):
    scripts = [generate_cli.describe(name) for name in generate_cli.SCRIPTS]
    tables = [flags for script in scripts for flags in script.sections.values()]
    known = {form for flags in tables for flag in flags for form in flag.forms}
    assert flags_in(page) <= known | OTHER_FLAGS


def test_a_flag_without_a_korean_text_is_reported(tmp_path):
    path = tmp_path / "flags.tsv"
    lines = generate_cli.TEXTS.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "\t--ratio\t" not in line), encoding="utf-8")
    texts = generate_cli.Texts(path)
    generate_cli.translate(generate_cli.describe("dataPreparation.py"), texts)
    with pytest.raises(StageError, match=r"lacks a Korean text: dataPreparation\.py --ratio$"):
        texts.check()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("train.py\t--no_such_flag\t설명", r"a text for nothing: train\.py --no_such_flag"),
        ("train.py\t--seed", "line 2: not script, key and text"),
        ("train.py\t--seed\ta\ntrain.py\t--seed\tb", r"line 3: train\.py --seed is repeated"),
    ],
)
def test_a_text_that_belongs_to_nothing_is_reported(tmp_path, row, reason):
    path = tmp_path / "flags.tsv"
    path.write_text(f"script\tkey\ttext\n{row}\n", encoding="utf-8")
    with pytest.raises(StageError, match=reason):
        generate_cli.Texts(path).check()


def test_a_switch_shows_both_forms_and_a_described_default_its_own_column():
    page = generate_cli.pages()[generate_cli.ENGLISH.path]
    assert "| `--flip`, `--no-flip` | | on |" in page
    assert "| `--lr` | `RATE` | 0.1 for adadelta" in page
    assert "| `--retries` | `N` | `3` | retries after a transient error |" in page
