"""Write docs/cli.md and docs/ko/cli.md: every flag of every script, from the scripts' parsers.

The Korean texts are in docs/ko/flags.tsv, a row for each purpose, section, flag and comment.

  python -m docs.generate_cli
  python -m docs.generate_cli --check     # exit status 1 if a page is not current
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from utils import cli
from utils.errors import StageError

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "docs/ko/flags.tsv"
# Each script, with the page that explains its stage.
SCRIPTS = {
    "downloadImage.py": "dataset.md",
    "cropImages.py": "dataset.md",
    "dataPreparation.py": "dataset.md",
    "train.py": "training.md",
    "test.py": "evaluation.md",
    "emotion.py": "recognition.md",
    "video.py": "recognition.md",
    "export.py": "export.md",
}
ANY_SCRIPT = "*"  # in TEXTS: a text for all scripts that have this flag or section


@dataclass(frozen=True)
class Flag:
    """A row of a flag table."""

    name: str  # as in --help, with two dashes
    forms: list[str]  # --flip and --no-flip
    value: str
    default: str
    text: str


@dataclass(frozen=True)
class Script:
    """What a page says about a script."""

    name: str
    purpose: str
    examples: list[str]
    sections: dict[str, list[Flag]]  # title → flags


@dataclass(frozen=True)
class Wording:
    """The words of one language."""

    path: Path
    intro: str
    columns: tuple[str, str, str, str]
    see: str  # the line that leads to a page
    default: str  # in texts such as "learning rate (default: 0.1)"
    on: str
    off: str


ENGLISH = Wording(
    ROOT / "docs/cli.md",
    """# Command line

All flags of all scripts. `python train.py --help` prints the same text for one script.
[한국어](ko/cli.md)

- A flag is written in full: there are no abbreviations. Hyphens may stand for underscores
  (`--data-path`), and values with a choice are taken in any case (`--optimizer Adam`).
- `~` at the start of a path is the home folder, also after `=` and in the files of `--config`.
- A switch such as `--flip` takes every usual spelling: `--flip`, `--flip False`, `--flip=0`,
  `--no-flip`, `--no_flip`.
- A value in brackets may be left out; `…` stands for one or more.
""",
    ("flag", "value", "default", "meaning"),
    "More about it: {}.",
    "default",
    "on",
    "off",
)
KOREAN = Wording(
    ROOT / "docs/ko/cli.md",
    """# 명령줄

스크립트별 전체 플래그 목록입니다. `python train.py --help`처럼 실행하면 같은 내용을 영어로
볼 수 있습니다. [English](../cli.md)

- 플래그 이름은 줄여 쓸 수 없습니다. 밑줄 대신 하이픈을 써도 되고(`--data-path`), 선택지 가운데
  고르는 값은 대소문자를 가리지 않습니다(`--optimizer Adam`).
- 경로 맨 앞의 `~`는 홈 폴더입니다. `=` 뒤에 쓸 때나 `--config` 파일 안에서도 같습니다.
- `--flip`처럼 켜고 끄는 플래그는 흔히 쓰는 표기를 모두 지원합니다:
  `--flip`, `--flip False`, `--flip=0`, `--no-flip`, `--no_flip`.
- 대괄호 안의 값은 생략할 수 있고, `…`은 여러 값을 지정할 수 있다는 뜻입니다.
""",
    ("플래그", "값", "기본값", "설명"),
    "자세한 내용: {}",
    "기본값",
    "켜짐",
    "꺼짐",
)
NOTICE = (
    "<!-- Written by python -m docs.generate_cli: change the script or docs/ko/flags.tsv. -->\n"
)


def main() -> int:
    """Write the pages, or check them. Return the exit status."""
    parser = cli.Parser(__doc__)
    parser.switch("--check", "write nothing; fail if a page is not current", False)
    args = parser.parse_args()
    outdated = [path for path, text in pages().items() if read(path) != text]
    if args.check:
        for path in outdated:
            print(f"{path.relative_to(ROOT)} is not current: python -m docs.generate_cli")
        return cli.SOME_FAILED if outdated else cli.OK
    for path in outdated:
        path.write_text(pages()[path], encoding="utf-8", newline="\n")
        print(f"{path.relative_to(ROOT)} is written")
    return cli.OK


def pages() -> dict[Path, str]:
    """Return both pages' text. Raise StageError if TEXTS does not fit the scripts."""
    english = [describe(name) for name in SCRIPTS]
    texts = Texts(TEXTS)
    korean = [translate(script, texts) for script in english]
    texts.check()
    return {
        ENGLISH.path: render(english, ENGLISH),
        KOREAN.path: render(korean, KOREAN),
    }


def read(path: Path) -> str:
    """Return a page's text; empty if it does not exist."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def describe(name: str) -> Script:
    """Return what a script's parser and docstring say."""
    parser = load_parser(name)
    lines = (parser.description or "").splitlines()
    sections = {}
    for group in parser._action_groups:
        flags = [describe_flag(action) for action in group._group_actions if is_shown(action)]
        if flags:
            sections[group.title or ""] = flags
    examples = [line.removeprefix("  ") for line in lines if line.startswith("  ")]
    return Script(name, lines[0], examples, sections)


def load_parser(name: str) -> cli.Parser:
    """Return a script's parser. The script is not imported by name: test is one of Python's own."""
    module_name = f"script_{Path(name).stem}"
    spec = importlib.util.spec_from_file_location(module_name, ROOT / name)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.make_parser()


def is_shown(action: argparse.Action) -> bool:
    """Return whether a flag is in the tables: all but --help and the hidden forms of switches."""
    return action.dest != "help" and action.help != argparse.SUPPRESS


def describe_flag(action: argparse.Action) -> Flag:
    """Return a flag's row in English."""
    name = action.option_strings[0]
    text = (action.help or "").replace("%%", "%").removesuffix(cli.default_note(action.default))
    if action.type is cli.boolean:
        default = ENGLISH.on if action.default else ENGLISH.off
        return Flag(name, cli.switch_forms(name), "", default, text)
    default = cli.default_note(action.default).removeprefix(" (").removesuffix(")")
    return Flag(name, [name], value_of(action), code(default), text)


def value_of(action: argparse.Action) -> str:
    """Return the values that a flag takes, as code."""
    if action.choices:
        return ", ".join(code(str(choice)) for choice in action.choices)
    if isinstance(action.metavar, tuple):
        return code(" ".join(action.metavar))
    word = str(action.metavar or action.dest.upper())
    if action.nargs == "?":
        word = f"[{word}]"
    elif action.nargs in ("+", "*"):
        word = f"{word} …"
    return code(word)


def code(text: str) -> str:
    """Return a text as code of Markdown; an empty text stays empty."""
    return f"`{text}`" if text else ""


class Texts:
    """The Korean texts, by script and key: purpose, [section], --flag or # comment."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raise StageError if a row has not three cells, or is repeated."""
        self._texts: dict[tuple[str, str], str] = {}
        self._used: set[tuple[str, str]] = set()
        self._missing: list[str] = []
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        for number, row in enumerate(rows, 2):
            cells = row.split("\t")
            if len(cells) != 3 or not all(cells):
                raise StageError(f"{TEXTS.name} line {number}: not script, key and text")
            if (cells[0], cells[1]) in self._texts:
                raise StageError(f"{TEXTS.name} line {number}: {cells[0]} {cells[1]} is repeated")
            self._texts[cells[0], cells[1]] = cells[2]

    def get(self, script: str, key: str) -> str:
        """Return a text; an empty one if it is missing, which `check` reports."""
        for place in ((script, key), (ANY_SCRIPT, key)):
            if place in self._texts:
                self._used.add(place)
                return self._texts[place]
        self._missing.append(f"{script} {key}")
        return ""

    def check(self) -> None:
        """Raise StageError if a text was missing, or one belongs to nothing."""
        if self._missing:
            raise StageError(f"{TEXTS.name} lacks a Korean text: {', '.join(self._missing)}")
        unused = [f"{script} {key}" for script, key in self._texts.keys() - self._used]
        if unused:
            raise StageError(f"{TEXTS.name} has a text for nothing: {', '.join(sorted(unused))}")


def translate(script: Script, texts: Texts) -> Script:
    """Return a script's description in Korean."""
    sections = {}
    for title, flags in script.sections.items():
        sections[texts.get(script.name, f"[{title}]")] = [
            Flag(
                flag.name,
                flag.forms,
                flag.value,
                {ENGLISH.on: KOREAN.on, ENGLISH.off: KOREAN.off}.get(flag.default, flag.default),
                texts.get(script.name, flag.name),
            )
            for flag in flags
        ]
    examples = []
    for line in script.examples:
        command, sharp, comment = line.partition("# ")
        text = texts.get(script.name, f"# {comment}") if sharp else ""
        examples.append(command + sharp + text)
    return Script(script.name, texts.get(script.name, "purpose"), examples, sections)


def render(scripts: list[Script], words: Wording) -> str:
    """Return a page."""
    contents = " · ".join(f"[{script.name}](#{anchor(script.name)})" for script in scripts)
    parts = [words.intro, NOTICE, contents + "\n"]
    for script in scripts:
        see = words.see.format(link_to(words.path.with_name(SCRIPTS[script.name])))
        parts.append(f"## {script.name}\n\n{script.purpose} {see}\n")
        parts.append("```sh\n" + "\n".join(script.examples) + "\n```\n")
        for title, flags in script.sections.items():
            rows = "\n".join(table_row(flag, words) for flag in flags)
            head = f"| {' | '.join(words.columns)} |\n|---|---|---|---|"
            parts.append(f"**{title[:1].upper()}{title[1:]}**\n\n{head}\n{rows}\n")
    return "\n".join(parts)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading of one word."""
    return heading.lower().replace(".", "")


def link_to(page: Path) -> str:
    """Return a link to a page in the same folder, with its heading as the text."""
    heading = page.read_text(encoding="utf-8").partition("\n")[0]
    return f"[{heading.removeprefix('# ')}]({page.name})"


def table_row(flag: Flag, words: Wording) -> str:
    """Return a flag's row as Markdown, with the flags in its text as code."""
    text, default = flag.text, flag.default
    if described := re.fullmatch(rf"(.*?) ?\({words.default}: (.*)\)", text):
        text, default = described.groups()
    cells = [", ".join(map(code, flag.forms)), flag.value, default, text]
    for i in (2, 3):
        cells[i] = cells[i].replace("|", "\\|").replace("<", "\\<")
        cells[i] = re.sub(r"--[A-Za-z][A-Za-z0-9_-]*", r"`\g<0>`", cells[i])
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


if __name__ == "__main__":
    cli.run(main)
