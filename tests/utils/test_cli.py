"""Flags, and how a script ends."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from utils import cli


def make_parser() -> cli.Parser:
    parser = cli.Parser("docs")
    parser.device_flags()
    parser.switch("--detect_face", "find faces", False)
    return parser


@pytest.mark.parametrize(
    ("words", "gpu"),
    [
        ("", True), ("--gpu", True), ("--gpu True", True), ("--gpu=1", True), ("--gpu yes", True),
        ("--gpu False", False), ("--gpu false", False), ("--gpu=0", False), ("--no-gpu", False),
        ("--no_gpu", False), ("--no-gpu --gpu", True),
    ],
)  # fmt: skip
def test_switch_takes_every_spelling(words, gpu):
    assert make_parser().parse_args(words.split()).gpu is gpu


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", None), ("--cuda_idx 1", True), ("--gpu", True), ("--no-gpu", False),
        ("--no-gpu --cuda_idx 1", False),
    ],
)  # fmt: skip
def test_wants_gpu_is_open_unless_a_flag_says_it(words, wanted):
    parser = cli.Parser("docs")
    parser.device_flags("small requests")
    assert cli.wants_gpu(parser.parse_args(words.split())) is wanted


@pytest.mark.parametrize("words", ["--no-detect-face", "--no_detect_face", "--detect_face False"])
def test_switch_of_two_words(words):
    assert make_parser().parse_args(["--detect_face", *words.split()]).detect_face is False


@pytest.mark.parametrize(
    "words", ["--gpu maybe", "--cuda_idx -1", "--cuda", "--detect", "stray", "--no-gpu 1"]
)
def test_parser_error_is_one_line_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        make_parser().parse_args([*words.split()])
    assert exit_.value.code == cli.COULD_NOT_RUN
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and ": error: " in line and line.endswith("(see --help)\n")


def make_long_parser(flagless: str = "") -> cli.Parser:
    parser = cli.Parser("docs")
    parser.flag("--img", "images", ["a.jpg"], str, nargs="+", metavar="IMAGE")
    parser.flag("--source", "camera", "0", str, metavar="SOURCE")
    parser.flag("--data_path", "folder", Path("data"), cli.path, metavar="DIR")
    parser.flag("--epochs", "number", 1, cli.positive_int, metavar="N")
    parser.flag("--lr", "number", 1, float, metavar="N")
    optimizers = ("adadelta", "adam", "adamw", "sgd")
    parser.flag("--optimizer", "optimizer", "sgd", str, choices=optimizers)
    parser.flag("--image_channel", "number", 1, int, choices=(1, 3))
    parser.switch("--detect_face", "find faces", False)
    if flagless:
        parser.flagless(flagless)
    return parser


def error_of(parser: cli.Parser, words: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(words)
    assert exit_.value.code == cli.COULD_NOT_RUN
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        ("--epoch 3", "unknown flag --epoch; did you mean --epochs?"),
        ("--Epochs=3", "unknown flag --Epochs; did you mean --epochs?"),
        ("-epochs 3", "unknown flag -epochs; did you mean --epochs?"),
        ("–epochs 3", "unknown flag –epochs; did you mean --epochs?"),
        ("--optimiser sgd", "unknown flag --optimiser; did you mean --optimizer?"),
        ("--data x", "unknown flag --data; did you mean --data_path?"),
        ("--no-detect-faces", "unknown flag --no-detect-faces; did you mean --no-detect-face?"),
        ("--detectface", "did you mean --detect_face?"),
        ("--nothing_like_it", "unknown flag --nothing_like_it (see --help)"),
        ("--epoch 3 --data x", "--epochs?; unknown flag --data; did you mean --data_path?"),
        ("-x", "unknown flag -x (see"),
        ("--helo", "did you mean --help?"),
        ("stray", "'stray' follows no flag; give it one, as in --img stray"),
        ("-1", "'-1' follows no flag"),
        ("--optimizer adm", "'adm' is not one of adadelta, adam, adamw, sgd; did you mean adam?"),
        ("--optimizer ada", "; did you mean adadelta, adam or adamw?"),
        ("--optimizer zzz", "'zzz' is not one of adadelta, adam, adamw, sgd (see --help)"),
        ("--image_channel 2", "'2' is not one of 1, 3"),
        ("--detect_face a.jpg", "'a.jpg' is neither True nor False"),
    ],
)
def test_parser_suggests_what_a_mistyped_word_resembles(words, suggestion, capsys):
    assert suggestion in error_of(make_long_parser(), words.split(), capsys)


def test_parser_takes_hyphens_and_any_case():
    words = ["--data-path", "a-b", "--optimizer", "Adam", "--image-channel=3"]
    args = make_long_parser().parse_args(words)
    assert (args.data_path, args.optimizer, args.image_channel) == (Path("a-b"), "adam", 3)
    args = make_long_parser().parse_args(["--data-path=--x-y", "--lr", "-1"])
    assert (args.data_path, args.lr) == (Path("--x-y"), -1)


def test_parser_does_not_touch_defaults_when_choices_are_checked():
    args = make_long_parser().parse_args([])
    assert (args.optimizer, args.image_channel, args.img) == ("sgd", 1, ["a.jpg"])


@pytest.mark.parametrize(
    ("words", "images", "detect"),
    [
        ("p.jpg", ["p.jpg"], False),
        ("p.jpg q.jpg", ["p.jpg", "q.jpg"], False),
        ("--detect_face p.jpg", ["p.jpg"], True),
        ("--detect-face p.jpg q.jpg", ["p.jpg", "q.jpg"], True),
        ("--detect_face False p.jpg", ["p.jpg"], False),
        ("p.jpg --detect_face q.jpg --epochs 2 r.jpg", ["p.jpg", "q.jpg", "r.jpg"], True),
        ("--img p.jpg --img q.jpg", ["p.jpg", "q.jpg"], False),
        ("--img p.jpg q.jpg --detect_face r.jpg", ["p.jpg", "q.jpg", "r.jpg"], True),
        ("- --detect_face", ["-"], True),
        ("p.jpg -- -x.jpg --epochs", ["p.jpg", "-x.jpg", "--epochs"], False),
        ("–x.jpg", ["–x.jpg"], False),
        ("", ["a.jpg"], False),
    ],
)
def test_parser_takes_words_without_a_flag(words, images, detect):
    parser = make_long_parser("--img")
    for _ in range(2):  # the default is not changed
        args = parser.parse_args(words.split())
        assert (args.img, args.detect_face) == (images, detect)


def test_parser_takes_one_word_without_a_flag_for_one_value(capsys):
    parser = make_long_parser("--source")
    assert parser.parse_args(["in.mp4", "--detect_face"]).source == "in.mp4"
    for words in (["a", "b"], ["--source", "a", "b"], ["--detect_face", "b", "--source=a"]):
        problem = error_of(parser, words, capsys)
        assert "--source takes one value, not 'b' as well" in problem


@pytest.mark.parametrize("word", ["–epochs", "--epoch"])
def test_parser_refuses_a_mistyped_flag_beside_words_without_one(word, capsys):
    problem = error_of(make_long_parser("--img"), ["p.jpg", word, "3"], capsys)
    assert "did you mean --epochs?" in problem


def test_path_is_below_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("~").mkdir()  # home is meant even so
    for words in (["--data_path", "~/x"], ["--data_path=~/x"], ["--data-path=~/x"]):
        assert make_long_parser().parse_args(words).data_path == tmp_path / "x"
    assert cli.path("~") == tmp_path
    for text in ("a/~/b", "./~", "a~", "~nobody-of-this-name/x"):
        assert cli.path(text) == Path(text)


def test_parser_help_shows_sections_and_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = cli.Parser("What it does.")
    parser.section("the section")
    parser.flag("--ratio", "parts in %", [80, 10], int, nargs=2, metavar=("A", "B"))
    parser.flag("--share", "10 % or 100%, 5%s, %(x)d", "1%", str)
    parser.switch("--half", "50 % of them", False)
    parser.flag("--name", "no default", None, str)
    parser.reference_size_flag(64)
    parser.log_dir_flag()
    parser.lang_flag()
    text = parser.format_help()
    assert text.index("What it does.") < text.index("the section:") < text.index("  --ratio A B")
    assert "parts in % (80 10)" in text and "no default\n" in text
    assert "10 % or 100%, 5%s, %(x)d (1%)" in text and "50 % of them (False)" in text
    args = parser.parse_args(["--image_size", "64", "--lang", "KO"])
    assert args.image_size == 64 and args.ratio == [80, 10] and args.lang == "ko"
    with pytest.raises(SystemExit):
        parser.parse_args(["--image_size", "65"])


def test_parser_help_ends_with_what_is_made_of_the_command_line(capsys):
    parser = cli.Parser("What it does.")
    assert not parser.format_help().endswith("\n\n")
    parser.closing(lambda words: f"%(prog)s %d {words}")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help", "x"])
    assert capsys.readouterr().out.endswith("\n\n%(prog)s %d ['--help', 'x']\n")


@pytest.mark.parametrize(
    ("type_", "description", "good", "bad"),
    [
        (cli.positive_int, "whole number of 1 or more", "1 3", "0 -1 1.5 x nan"),
        (cli.non_negative_int, "whole number of 0 or more", "0 3", "-1 0.5 x"),
        (cli.percent, "whole number from 1 to 100", "1 100", "0 101 x"),
        (cli.int_between(2, 4), "whole number from 2 to 4", "2 4", "1 5 x"),
        (cli.positive_float, "number above 0", "0.1 1e3", "0 -0.1 nan x"),
        (cli.non_negative_float, "number of 0 or more", "0 0.5", "-0.1 nan x"),
        (cli.fraction, "number from 0 to 1", "0 0.5 1", "-0.1 1.01 nan x"),
        (cli.fraction_below_one, "number from 0 to 0.99", "0 0.99", "1 -0.1 nan x"),
    ],
)
def test_number_types_refuse_what_is_out_of_range(type_, description, good, bad):
    for text in good.split():
        assert type_(text) == float(text)
    for text in [*bad.split(), ""]:
        with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is not a {description}$"):
            type_(text)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (cli.positive_int, "1000000001"),
        (cli.positive_float, "inf"),
        (cli.non_negative_float, "2e9"),
    ],
)
def test_number_types_say_that_a_number_is_too_large(type_, text):
    with pytest.raises(
        argparse.ArgumentTypeError, match=f"^'{text}' is too large: the most is 1,000,000,000$"
    ):
        type_(text)


RUN_MAIN = """
import sys
from utils import cli
from utils.errors import LostProcessError, StageError, TransientError

def main():
    print("some output")
    {}

sys.argv[0] = "folder/stage.py"
cli.run(main)
"""


@pytest.mark.parametrize(
    ("body", "status", "errors"),
    [
        ("return 0", 0, ""),
        ("return 1", 1, ""),
        ("raise StageError('no table\\nhere')", 2, "stage.py: error: no table\\nhere\n"),
        ("open('/none/x')", 2, "stage.py: error: /none/x: No such file or directory\n"),
        ("raise KeyboardInterrupt", 130, "stage.py: interrupted; run it again to finish\n"),
        ("raise KeyboardInterrupt('go on')", 130, "stage.py: interrupted; go on\n"),
    ],
)
def test_run_ends_with_a_status_and_one_line(body, status, errors):
    done = subprocess.run(
        [sys.executable, "-c", RUN_MAIN.format(body)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "some output\n", errors)


def test_run_does_not_wait_for_threads_after_an_error():
    body = "import threading; threading.Thread(target=sys.stdin.read).start(); raise StageError(1)"
    words = [sys.executable, "-c", RUN_MAIN.format(body)]
    with subprocess.Popen(words, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1) as script:
        assert script.wait(60) == 2


def test_run_names_the_rank_in_an_error(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    words = [sys.executable, "-c", RUN_MAIN.format("raise StageError('no table')")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "stage.py (rank 1): error: no table\n"


@pytest.mark.parametrize(
    ("body", "is_final"),
    [
        ("raise StageError('no table')", True),
        ("cli.Parser(None).error('no table')", True),
        ("raise TransientError('no table')", False),
        ("raise LostProcessError('no table')", False),
        ("raise OSError('no table')", False),
        ("raise KeyboardInterrupt('no table')", False),
        ("raise RuntimeError('no table')", False),
    ],
)
def test_run_lets_torchrun_restart_only_what_may_succeed_then(tmp_path, body, is_final):
    """And prints a final reason once, though torchrun starts the processes again."""

    def attempt(number: int) -> subprocess.CompletedProcess:
        folder = tmp_path / f"job/attempt_{number}/0"
        folder.mkdir(parents=True)
        env = os.environ | {
            "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_RESTART_COUNT": str(number),
            "TORCHELASTIC_ERROR_FILE": str(folder / "error.json"),
        }
        words = [sys.executable, "-c", RUN_MAIN.format(body)]
        return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)

    first, second = attempt(0), attempt(1)
    assert first.returncode == second.returncode != 0 and "no table" in first.stderr
    if is_final:
        assert (second.stdout, second.stderr) == ("", "")
        assert "no table" in (tmp_path / "job/attempt_1/0/error.json").read_text()
    else:
        assert second.stdout == "some output\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_run_ignores_a_reader_that_leaves_early():
    body = "sys.stdin.read(1); print('x' * 100_000); return 0"
    words = [sys.executable, "-c", RUN_MAIN.format(body)]
    with subprocess.Popen(words, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1) as script:
        script.stdout.close()
        script.stdin.write(b"x")
        script.stdin.flush()
        assert script.stderr.read() == b""
        assert script.wait(60) == 1


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("4", 4), ("4.0", 4), ("1", 1), ("0.08", 0.08), ("1e-3", 0.001)]
)
def test_pixels_or_fraction_is_whole_or_below_one(text, value):
    number = cli.pixels_or_fraction(text)
    assert number == value and type(number) is type(value)


@pytest.mark.parametrize("text", ["1.5", "-1", "-0.1", "nan", "4px", ""])
def test_pixels_or_fraction_refuses_other_numbers(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is n"):
        cli.pixels_or_fraction(text)


def test_shear_angle_is_less_than_a_right_angle():
    assert cli.shear_angle("60") == 60
    for text in ("61", "90", "-1"):
        with pytest.raises(argparse.ArgumentTypeError, match="degrees from 0 to 60"):
            cli.shear_angle(text)
