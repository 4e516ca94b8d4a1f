"""What all scripts forgive on the command line: home folders, mistyped flags, left out flags."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from docs.generate_cli import SCRIPTS, is_shown, load_parser
from tests.helpers import jpeg, make_faces, one_line_error, run
from utils import cli
from utils.inference.model_path import BUNDLED_MODEL
from utils.recognition.inputs import expand_inputs


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home folder, beside a folder to work in that has a folder called ~."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    (work / "~").mkdir(parents=True)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(work)
    return home


def run_at_home(home: Path, script: str, *words: object):
    env = {"HOME": str(home), "USERPROFILE": str(home)}
    return run(script, *words, cwd=Path.cwd(), env=env)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_a_path_knows_the_home_folder(script, home):
    parser = load_parser(script)
    actions = [action for action in parser._actions if isinstance(action.default, Path)]
    actions += [action for action in parser._actions if action.metavar in ("DIR", "FILE", "TSV")]
    assert actions
    for action in actions:
        assert action.type is cli.path
        assert action.type("~/x") == home / "x"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_is_suggested_and_takes_hyphens(script, capsys):
    parser = load_parser(script)
    flags = [action.option_strings[0] for action in parser._actions if is_shown(action)]
    for flag in flags:
        with pytest.raises(SystemExit):
            parser.parse_args([f"{flag}{flag[-1]}"])
        assert f"did you mean {flag}?" in capsys.readouterr().err
        if "_" in flag.removeprefix("--no_"):
            with pytest.raises(SystemExit):
                parser.parse_args([flag.replace("_", "-") + "=", "--help"])
            assert "unknown" not in capsys.readouterr().err


@pytest.mark.parametrize("script", ["emotion.py", "video.py"])
def test_help_ends_with_the_classes_in_order(script, capsys):
    with pytest.raises(SystemExit):
        load_parser(script).parse_args(["--help", "--model_path", str(BUNDLED_MODEL)])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("(the bundled model), in order: 분노 경멸 혐오 공포 기쁨 중립 슬픔 놀람")


def test_inputs_are_found_below_the_home_folder(home):
    (home / "album").mkdir()
    (home / "album" / "a.jpg").write_bytes(jpeg())
    (home / "list.txt").write_text("~/album/a.jpg\n~/album\n~/album/*.jpg\n", encoding="utf-8")
    photo = str(home / "album" / "a.jpg")
    for words, count in (
        (["~/album/a.jpg"], 1),
        (["~/album"], 1),
        (["~/album/*.jpg"], 1),
        (["@~/list.txt"], 3),
    ):
        sources, is_single = expand_inputs(words)
        assert [source.name for source in sources] == [photo] * count
        assert is_single is (words == ["~/album/a.jpg"])


@pytest.mark.slow
def test_emotion_takes_photos_without_img(home):
    for path in (home / "a.jpg", Path("b.jpg")):
        path.write_bytes(jpeg())
    expected = run("emotion.py", "--img", "b.jpg", "--detect_face", cwd=Path.cwd())
    assert expected.returncode == 0 and json.loads(expected.stdout)[0]["rect"]
    for words in (["b.jpg", "--detect_face"], ["--detect-face", "b.jpg"]):
        done = run("emotion.py", *words, cwd=Path.cwd())
        assert (done.returncode, done.stdout) == (0, expected.stdout)
    done = run_at_home(home, "emotion.py", "b.jpg", "--save=~/marked", "~/a.jpg")
    assert done.returncode == 0
    files = [json.loads(line)["file"] for line in done.stdout.splitlines()]
    assert files == ["b.jpg", str(home / "a.jpg")]
    assert {path.name for path in (home / "marked").iterdir()} == {"a.jpg", "b.jpg"}
    assert not list(Path("~").iterdir())


@pytest.mark.slow
def test_emotion_without_a_photo_says_what_to_give(home):
    here = Path.cwd()
    advice = "name a photo: python emotion.py photo.jpg"
    one_line_error(run("emotion.py", cwd=here), advice)
    one_line_error(run("emotion.py", "--detect_face", cwd=here), advice)
    one_line_error(run("emotion.py", "--img", "기쁨.jpg", cwd=here), "기쁨.jpg", "No such file")
    Path("기쁨.jpg").write_bytes(jpeg())
    done = run("emotion.py", cwd=here)
    assert done.returncode == 0 and len(json.loads(done.stdout)) == 1


@pytest.mark.slow
def test_video_takes_a_file_without_source(home):
    (home / "in.mp4").write_bytes(b"no video")
    done = run_at_home(home, "video.py", "--no-display", "~/in.mp4", "--log", "x.csv")
    assert done.returncode == 2 and f"--source {home / 'in.mp4'}: " in done.stderr
    done = run("video.py", "a.mp4", "b.mp4", "--log", "x.csv", cwd=Path.cwd())
    one_line_error(done, "--source takes one value, not 'b.mp4' as well")


@pytest.mark.slow
def test_outputs_go_below_the_home_folder(home):
    make_faces(home / "faces", ["기쁨", "슬픔"], 10)
    words = ("--input=~/faces", "--output=~/data", "--log_dir=~/logs", "--mode", "Copy")
    assert run_at_home(home, "dataPreparation.py", *words).returncode == 0
    assert len(list((home / "data").rglob("*.png"))) == 20 and (home / "logs").is_dir()
    config = {"data-path": "~/data", "runs_path": "~/runs", "model_path": "~/model.pt"}
    config |= {"store": "~/store", "log_dir": "~/logs", "epochs": 1, "optimizer": "Adam"}
    (home / "c.json").write_text(json.dumps(config), encoding="utf-8")
    done = run_at_home(home, "train.py", "--config=~/c.json", "--amp", "OFF")
    assert done.returncode == 0
    assert (home / "model.pt").exists()
    words = ("--model-path=~/model.pt", "--data_path=~/data", "--split", "Validation")
    done = run_at_home(home, "test.py", *words, "--output=~/report", "--log_dir=~/logs")
    assert done.returncode == 0 and (home / "report").is_dir()
    tables = [*(home / "runs").rglob("*.csv"), *(home / "report").rglob("*.csv")]
    assert {path.name for path in tables} == {"results.csv", "predictions.csv", "confusion.csv"}
    assert all(path.read_bytes().startswith(codecs.BOM_UTF8) for path in tables)  # for Excel
    assert [path.name for path in Path().iterdir()] == ["~"] and not list(Path("~").iterdir())


@pytest.mark.parametrize("script", ["downloadImage.py", "cropImages.py"])
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (bytes(range(256)), "binary"),
        (b"name\n", "no column"),
    ],
)
def test_table_stages_report_a_bad_table_in_one_line(tmp_path, script, content, word):
    if content is not None:
        (tmp_path / "t.tsv").write_bytes(content)
    one_line_error(run(script, "--input", "t.tsv", cwd=tmp_path), "t.tsv", word)
    assert {p.name for p in tmp_path.iterdir()} <= {"t.tsv"}
