"""Both first stages on a real Ray cluster of two nodes, of which one dies during the work."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.aihub import photo, photo_name, record, write_labels, write_zip
from tests.helpers import (
    ROOT,
    command,
    crops_in,
    jpeg,
    name_of,
    one_line_error,
    row,
    run,
    tree,
    write_table,
)

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def nodes() -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of a cluster, and the process that kills its second node on a line of stdin."""
    words = [sys.executable, ROOT / "tests/robustness/ray_nodes.py"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, text=True, **pipes) as process:
        yield process.stdout.readline().strip(), process
        process.stdin.close()


def test_both_stages_redo_the_work_of_a_node_that_dies(tmp_path, server, nodes):
    address, process = nodes
    names = [name_of("기쁨", i) for i in range(40)]
    server.files = {f"/{name}": jpeg((60 + i, 80)) for i, name in enumerate(names)}
    server.delay = 0.2
    rows = [row(name, f"{server.url}/{name}") for name in names]
    rows += [row("gone_기쁨_.jpg", f"{server.url}/gone"), row("../bad_기쁨_.jpg")]
    table = write_table(tmp_path / "t.tsv", rows)
    stage = ("--input", table, "--ray", address)
    with subprocess.Popen(command("downloadImage.py", *stage), cwd=tmp_path) as download:
        while len(list(tmp_path.rglob("*.jpg"))) < 8:
            assert download.poll() is None
            time.sleep(0.05)
        process.stdin.write("kill\n")
        process.stdin.flush()
        assert process.stdout.readline() == "killed\n"
        assert download.poll() is None, "all was done before the node was killed"
    assert download.returncode == 1
    photos = tree(tmp_path / "original").items()
    photos = {path: content for path, content in photos if "/.part-" not in path}
    assert photos == {f"기쁨{path}": content for path, content in server.files.items()}
    assert len((tmp_path / "download.error.log").read_text().splitlines()) == 3

    done = run("cropImages.py", *stage, cwd=tmp_path)
    assert done.returncode == 1 and "40 cropped, 0 already there, 2 failed" in done.stdout
    by_ray = crops_in(tmp_path / "crop")
    assert run("cropImages.py", "--input", table, "--output", "alone", cwd=tmp_path).returncode == 1
    assert by_ray == crops_in(tmp_path / "alone") and len(by_ray) == 40

    names = [photo_name("기쁨", i) for i in range(9)]
    write_zip(tmp_path / "zips/a.zip", [(name, photo(i)) for i, name in enumerate(names)])
    write_labels(tmp_path / "zips/TRAIN.zip", [record(name) for name in names])
    stage = ("cropImages.py", "--input", "zips", "--output")
    assert run(*stage, "zipped", "--ray", address, cwd=tmp_path).returncode == 0
    assert run(*stage, "zipped alone", cwd=tmp_path).returncode == 0
    by_ray = crops_in(tmp_path / "zipped")
    assert by_ray == crops_in(tmp_path / "zipped alone") and len(by_ray) == 9


def test_a_cluster_that_cannot_be_reached_is_one_line(tmp_path):
    table = write_table(tmp_path / "t.tsv", [row(name_of("기쁨"))])
    done = run("downloadImage.py", "--input", table, "--ray", "127.0.0.1:9", cwd=tmp_path)
    one_line_error(done, "--ray 127.0.0.1:9")
