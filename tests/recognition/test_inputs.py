"""The images that a user names: folders, patterns, lists, addresses and stdin."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers import jpeg
from utils.connections import tls_context
from utils.errors import StageError
from utils.imaging.image_io import ImageError
from utils.recognition.inputs import ImageSource, expand_inputs, is_address


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """The working folder, with some images."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.JPG", "c.txt", "d/e.png", ".hidden.png", ".cache/f.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"hello" if name == "c.txt" else jpeg())


def output_names(words: list[str]) -> list[str]:
    return [source.output_name for source in expand_inputs(words)[0]]


def test_expand_inputs_of_a_folder_are_its_images_by_name():
    sources, is_single = expand_inputs(["."])
    expected = [str(Path(name)) for name in ("a.JPG", "b.jpg", "d/e.png")]
    assert [os.path.normpath(source.name) for source in sources] == expected
    assert [source.output_name for source in sources] == expected and not is_single


def test_expand_inputs_says_whether_one_image_is_named():
    for words, expected in (
        (["b.jpg"], True),
        (["none.jpg"], True),
        (["b.jpg", "b.jpg"], False),
        (["d"], False),
        (["b*"], False),
        (["-"], True),
    ):
        assert expand_inputs(words)[1] is expected, words


def test_expand_inputs_of_an_address_is_saved_under_its_last_part():
    [source], is_single = expand_inputs(["http://x.org/a/../photo.jpg?size=3"])
    assert source.output_name == "photo.jpg" and is_single and not source.is_file
    assert output_names(["https://x.org/photos/"]) == ["download.jpg"]


def test_expand_inputs_of_an_address_checks_the_settings_of_the_network(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "none.pem")
    tls_context.cache_clear()
    expand_inputs(["b.jpg"])  # needs no network
    with pytest.raises(StageError, match=r"SSL_CERT_FILE=none\.pem: No such file"):
        expand_inputs(["http://x.org/a.jpg"])
    assert not tls_context.cache_info().currsize


def test_expand_inputs_gives_every_image_an_output_name_of_its_own():
    assert output_names(["b.jpg", ".", "b.jpg"]) == [
        "b.jpg", "a.JPG", "b-2.jpg", str(Path("d/e.png")), "b-3.jpg",
    ]  # fmt: skip


def test_expand_inputs_of_a_pattern_are_its_matches_and_a_file_of_that_name_is_itself():
    assert output_names(["*.[jJ][pP][gG]"]) == ["a.JPG", "b.jpg"]
    Path("[x].jpg").write_bytes(jpeg())
    sources, is_single = expand_inputs(["[x].jpg"])
    assert [source.name for source in sources] == ["[x].jpg"] and is_single


def test_expand_inputs_of_a_list_are_its_lines():
    Path("list.txt").write_text("\ufeffb.jpg\n\n  d \nhttp://x.org/y.png\n", encoding="utf-8")
    sources, is_single = expand_inputs(["@list.txt"])
    assert [source.name for source in sources][::2] == ["b.jpg", "http://x.org/y.png"]
    assert len(sources) == 3 and not is_single
    Path("@photo.jpg").write_bytes(jpeg())
    assert output_names(["@photo.jpg"]) == ["@photo.jpg"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("empty", "no image in this folder"),
        ("*.gif", "nothing matches"),
        ("@no.txt", "No such file"),
        ("@blank.txt", "is empty"),
        ("@bytes.txt", "is not UTF-8 text"),
    ],
)
def test_expand_inputs_refuses_a_word_that_names_no_image(word, message):
    Path("empty").mkdir()
    Path("blank.txt").write_text("\n \n")
    Path("bytes.txt").write_bytes("얼굴.jpg".encode("cp949"))
    with pytest.raises(StageError, match=message):
        expand_inputs([word])


def test_is_address_knows_http_in_any_case():
    assert is_address("HTTP://x") and is_address("https://x")
    assert not is_address("ftp://x") and not is_address("http.jpg")


def test_image_source_opens_a_path_or_the_bytes_of_stdin(monkeypatch):
    assert ImageSource("b.jpg", "b.jpg").open() == Path("b.jpg")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"bytes")))
    assert ImageSource("-", "stdin.jpg").open().read() == b"bytes"


def test_image_source_opens_the_bytes_of_an_address(server):
    server.files = {"/a.jpg": jpeg()}
    file = ImageSource(f"{server.url}/a.jpg", "a.jpg").open()
    assert file.getvalue() == jpeg()
    with pytest.raises(ImageError, match="404"):
        ImageSource(f"{server.url}/none.jpg", "none.jpg").open()


def test_expand_inputs_of_a_folder_takes_photos_of_any_name_and_counts_the_rest(capsys):
    Path("d/u1").write_bytes(jpeg())
    Path("d/x.jfif").write_bytes(jpeg())
    Path("d/y.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Path("split.tsv").write_text("x")
    assert output_names(["."]) == [
        str(Path(name))
        for name in ("a.JPG", "b.jpg", "d/e.png", "d/u1.jpg", "d/x.jfif", "d/y.HEIC.jpg")
    ]
    assert capsys.readouterr().err == "note: --img .: 1 file left out: 1 .txt\n"


def test_expand_inputs_of_a_folder_without_an_image_says_what_it_saw():
    Path("texts").mkdir()
    for name in ("1.txt", "2.txt", "film.mov"):
        Path("texts", name).write_bytes(b"\0\0\0\x14ftypqt  " if name == "film.mov" else b"hello")
    message = "--img texts: no image in this folder: 3 files left out: 2 .txt, 1 .mov"
    with pytest.raises(StageError, match=f"^{message}$"):
        expand_inputs(["texts"])


def test_expand_inputs_of_a_pattern_walks_down_folders_that_match(capsys):
    Path("empty").mkdir()
    assert output_names(["*"]) == ["a.JPG", "b.jpg", "c.txt.jpg", "e.png"]
    assert output_names(["**/*"]) == ["a.JPG", "b.jpg", "c.txt.jpg", "e.png"]
    assert output_names(["[d]"]) == ["e.png"]
    assert capsys.readouterr().err == ""
    Path("empty/x.txt").write_text("hello")
    assert output_names(["[de]*"]) == ["e.png"]
    expected = "note: --img empty: no image in this folder: 1 file left out: 1 .txt\n"
    assert capsys.readouterr().err == expected


@pytest.mark.skipif(os.name == "nt", reason="only administrators may make links")
def test_expand_inputs_of_a_folder_follows_links():
    Path("album").mkdir()
    Path("album/linked").symlink_to("../d")
    assert output_names(["album"]) == [str(Path("linked/e.png"))]


def test_expand_inputs_gives_no_two_names_that_a_disk_takes_for_one():
    Path("other").mkdir()
    Path("other/B.JPG").write_bytes(jpeg())
    assert output_names(["b.jpg", "other"]) == ["b.jpg", "B-2.JPG"]
