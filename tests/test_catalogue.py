"""Image sets: they are checked against their lists, fetched and listed."""

import http.server
import io
import tarfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from skimage.io import imsave

from pudle.cli import main
from pudle.data import catalogue, inventory
from pudle.data.catalogue import BUNDLED, DATA_SETS, DIGITS, FOLDERS, MNIST_FILES
from pudle.data.fetch import SOURCES, fetch
from pudle.errors import PudleError


def _save(path: Path, value: int = 100, shape=(9, 9)) -> Path:
    path.parent.mkdir(exist_ok=True)
    imsave(path, np.full(shape, value, np.uint8), check_contrast=False)
    return path


@pytest.fixture
def toy_set(tmp_path, monkeypatch):
    """A data set "set12" of three small images: their folder, and the list that says so."""
    folder = tmp_path / "there" / "set12"
    folder.parent.mkdir()
    for i, name in enumerate("abc"):
        _save(folder / f"{name}.png", 50 + i)
    table = inventory.describe("set12", folder.parent).drop(columns="content")
    monkeypatch.setattr(inventory, "listed", lambda data_set: table if data_set in DATA_SETS else None)
    monkeypatch.setattr("pudle.data.fetch.listed", lambda data_set: table)
    return folder


def test_check_tells_what_is_not_as_listed(toy_set):
    def check(*words):
        return CliRunner().invoke(main, ["data", "check", *words, "--root", str(toy_set.parent)])

    assert check("set12").exit_code == 0
    (toy_set / "a.png").unlink()
    _save(toy_set / "b.png", 52)  # the picture that c is
    _save(toy_set / "d.png", 90)
    said = check("set12")
    assert said.exit_code == 1 and "set12: 3 images; pixels: 3 of 9 x 9" in said.output
    for line in (
        "a.png is missing",
        "d.png does not belong there",
        "b.png differs from the list: it has 9 x 9",
        "b.png and c.png are the same picture",
    ):
        assert line in said.output
    own = check(f"folder:{toy_set}")
    assert own.exit_code == 1 and "the same picture" in own.output and "this folder is your own" in own.output
    assert check("set13").exit_code == 2


class _Server(http.server.ThreadingHTTPServer):
    """Serves the files of a folder on the loopback address, ranges too; cuts off answers after ``limit`` bytes."""

    def __init__(self, folder: Path):
        server = self
        self.limit, self.asked = None, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append((self.path, self.headers.get("Range")))
                path = folder / self.path.lstrip("/")
                if not path.is_file():
                    return self.send_error(404)
                start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
                content = path.read_bytes()[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: server.limit])

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    with _Server(tmp_path / "served") as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_fetch_takes_what_is_missing_and_checks_it(toy_set, server, tmp_path):
    served = tmp_path / "served"
    for path in toy_set.iterdir():
        (served / path.name).write_bytes(path.read_bytes())
    root, said = tmp_path / "root", []
    fetch("set12", root, f"{server.address}/", said.append)
    assert inventory.check("set12", root) == inventory.check("set12", toy_set.parent)
    assert said == ["set12: 0 of 3 files are present", "a.png", "b.png", "c.png"]
    (root / "set12" / "b.png").unlink()
    server.asked.clear()
    fetch("set12", root, f"{server.address}/", said.append)
    assert [path for path, _ in server.asked] == ["/b.png"]
    (root / "set12" / "b.png").unlink()
    _save(served / "b.png", 99)
    with pytest.raises(PudleError, match=r"b\.png: the file differs from the list"):
        fetch("set12", root, f"{server.address}/", said.append)
    assert not (root / "set12" / "b.png").exists()
    for source in (f"{server.address}/nowhere/", f"{server.address}/nowhere.tgz"):
        with pytest.raises(PudleError, match="404"):
            fetch("set12", tmp_path / "other", source, said.append)
        assert not (tmp_path / "other").exists()


def test_fetch_goes_on_where_it_was_cut_off(toy_set, server, tmp_path):
    """An archive comes in two pieces; the second request asks for what the first did not bring."""
    packed = io.BytesIO()
    (tmp_path / "bulk").write_bytes(np.random.default_rng(0).bytes(20_000))
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tmp_path / "bulk", arcname="bulk")
        for path in toy_set.iterdir():
            tar.add(path, arcname=f"deep/folder/{path.name}")
    (tmp_path / "served" / "all.tgz").write_bytes(packed.getvalue())
    root, server.limit = tmp_path / "root", 10_000
    with pytest.raises(PudleError, match="the received part is kept, try again"):
        fetch("set12", root, f"{server.address}/all.tgz", lambda _: None)
    server.limit = None
    fetch("set12", root, f"{server.address}/all.tgz", lambda _: None)
    assert [asked for _, asked in server.asked] == [None, f"bytes={2 * 2**12}-"]
    assert inventory.check("set12", root).wrong == []
    assert [path.name for path in root.iterdir()] == ["set12"]
    (root / "set12" / "a.png").unlink()
    for content, message in (
        (b"<html>", "not a tar archive"),
        (packed.getvalue()[:15_000], "damaged or not a tar archive"),
    ):
        (tmp_path / "served" / "all.tgz").write_bytes(content)
        with pytest.raises(PudleError, match=message):
            fetch("set12", root, f"{server.address}/all.tgz", lambda _: None)
    assert [path.name for path in root.iterdir()] == ["set12"]


@pytest.mark.parametrize("source", ["notaurl", "file:///tmp/", "http:/", ""])
def test_fetch_refuses_a_source_that_is_no_address(source, tmp_path):
    said = CliRunner().invoke(main, ["data", "fetch", "bsd68", "--source", source, "--root", str(tmp_path / "root")])
    assert said.exit_code == 2 and f"--source {source!r}: must be an address" in said.output
    assert not list(tmp_path.iterdir())


def test_fetch_refuses_what_has_no_source(tmp_path):
    for name, message in (
        ("skimage-test", "part of scikit-image"),
        ("folder:x", "unknown data set to fetch"),
        ("bsd86", "did you mean 'bsd68'"),
    ):
        with pytest.raises(PudleError, match=message):
            fetch(name, tmp_path)
    assert set(SOURCES) == set(catalogue.FOLDERS) and not list(tmp_path.iterdir())


def test_list_shows_every_set(tmp_path):
    def listed():
        return CliRunner().invoke(main, ["data", "list", "--root", str(tmp_path)]).output

    said = listed()
    assert all(name in said for name in (*DATA_SETS, *DIGITS)) and said.count("missing") == 4
    for folder in (*FOLDERS, "mnist"):
        (tmp_path / folder).mkdir()
    assert listed() == said  # empty folders
    _save(tmp_path / "set12/one.PNG")
    for name in MNIST_FILES:
        (tmp_path / "mnist" / name).touch()
    there = [line.split()[0] for line in listed().splitlines() if line.split()[1] == "present"]
    assert there == [*BUNDLED, "set12", "digits", "mnist"]
    assert isinstance(inventory.listed("set12"), pd.DataFrame)
