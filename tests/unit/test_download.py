"""Downloads against a server on this machine that breaks the line, lies, or is not there."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import download, musan
from pse.corpora.download import Archive, disk_need_bytes, find_or_download
from pse.errors import EnvironmentFault, PseError
from pse.io import atomic
from pse.io import fetch as fetching
from pse.io.fetch import Meter, Remote, fetch

DATA = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Serves `files` with Range support; `breaks` answers are cut after `most` bytes each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks, self.most, self.ranges_known = 0, 300_000, True
        self.answers: dict[str, int] = {}
        self.seen: list[tuple[str, str]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.seen.append((self.path, wanted))
        if self.path in self.server.answers:
            return self.send_error(self.server.answers[self.path])
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            return self.end_headers()
        data = self.server.files[self.path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges_known else 0
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        body = data[start:]
        if self.server.breaks > 0:
            self.server.breaks -= 1
            body = body[: self.server.most]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    running.files["/x.bin"] = DATA
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def remote(*urls: str, data: bytes = DATA, md5: str | None = None) -> Remote:
    return Remote("x.bin", urls, len(data), hashlib.md5(data).hexdigest() if md5 is None else md5)


def test_a_broken_line_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = 3
    pauses: list[float] = []
    path = fetch(remote(server.url("/x.bin")), tmp_path, pauses.append)
    assert path.read_bytes() == DATA
    assert [r for _, r in server.seen] == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert len(pauses) == 3
    assert not (tmp_path / "x.bin.part").exists()


def test_a_part_from_an_earlier_run_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(DATA[:123_456])
    assert fetch(remote(server.url("/x.bin")), tmp_path).read_bytes() == DATA
    assert server.seen == [("/x.bin", "bytes=123456-")]


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges_known = False
    (tmp_path / "x.bin.part").write_bytes(b"z" * 123_456)
    assert fetch(remote(server.url("/x.bin")), tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("wrong", [b"z" * 500_000, b"z" * len(DATA), DATA + b"more"])
def test_a_part_of_something_else_is_fetched_anew(server: Server, tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / "x.bin.part").write_bytes(wrong)
    assert fetch(remote(server.url("/x.bin")), tmp_path, lambda _: None).read_bytes() == DATA


def test_a_verified_file_is_neither_fetched_nor_read_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(remote(server.url("/x.bin")), tmp_path)
    monkeypatch.setattr(fetching, "_check", lambda *_: pytest.fail("read again"))
    fetch(remote(server.url("/x.bin")), tmp_path)
    assert len(server.seen) == 1


def test_a_file_put_there_by_hand_is_verified_and_never_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(DATA)
    assert fetch(remote(server.url("/x.bin")), tmp_path).read_bytes() == DATA
    (tmp_path / "x.bin").write_bytes(DATA[:-1] + b"!")
    with pytest.raises(PseError, match="its md5 is .*, the published one is .*; remove it"):
        fetch(remote(server.url("/x.bin")), tmp_path)
    assert (tmp_path / "x.bin").exists() and server.seen == []


def test_a_file_with_another_checksum_never_gets_its_name(server: Server, tmp_path: Path) -> None:
    with pytest.raises(PseError, match="its md5 is .*, the published one is 0000"):
        fetch(remote(server.url("/x.bin"), md5="0" * 32), tmp_path)
    assert len(server.seen) == 2
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_without_a_published_checksum_the_size_is_verified_and_the_hash_told(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(remote(server.url("/x.bin"), md5=""), tmp_path)
    assert f"no checksum is published; sha256 {hashlib.sha256(DATA).hexdigest()}" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"<html>log in first</html>", DATA + b"more"])
def test_another_size_is_refused_before_it_is_stored(server: Server, tmp_path: Path, body: bytes) -> None:
    server.files["/x.bin"] = body
    with pytest.raises(EnvironmentFault, match=f"offers {len(body)} bytes, not the {len(DATA)} of the file"):
        fetch(remote(server.url("/x.bin")), tmp_path)
    assert len(server.seen) == 1 and not (tmp_path / "x.bin.part").exists()


def test_a_missing_file_is_looked_for_at_the_next_place(server: Server, tmp_path: Path) -> None:
    server.answers["/gone"] = 404
    assert fetch(remote(server.url("/gone"), server.url("/x.bin")), tmp_path, lambda _: None).read_bytes() == DATA


def test_a_busy_server_is_asked_again_with_growing_pauses(server: Server, tmp_path: Path) -> None:
    server.answers["/x.bin"] = 503
    pauses: list[float] = []
    with pytest.raises(EnvironmentFault, match="cannot be fetched from 127.0.0.1: HTTP 503"):
        fetch(remote(server.url("/x.bin")), tmp_path, pauses.append)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]


def test_no_network_is_one_line_with_the_remedy_and_keeps_what_is_there(tmp_path: Path) -> None:
    gone = Server()
    url = gone.url("/x.bin")
    gone.server_close()
    (tmp_path / "x.bin.part").write_bytes(DATA[:500_000])
    pauses: list[float] = []
    with pytest.raises(EnvironmentFault, match="x.bin: cannot be fetched .*; check the network and run") as error:
        fetch(remote(url), tmp_path, pauses.append)
    assert pauses == [1.0, 2.0]
    assert "\n" not in str(error.value) and error.value.exit_code == 3
    assert (tmp_path / "x.bin.part").read_bytes() == DATA[:500_000]


def test_only_https_is_fetched_also_behind_a_redirect(server: Server, tmp_path: Path) -> None:
    for url in ("http://example.org/x.bin", "file:///etc/passwd", server.url("/to/http://example.org/x.bin")):
        with pytest.raises(PseError, match="only https"):
            fetch(remote(url), tmp_path / "d", lambda _: None)
    assert fetch(remote(server.url(f"/to/{server.url('/x.bin')}")), tmp_path).read_bytes() == DATA


def test_a_full_disk_is_one_line_and_not_a_network_fault(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = open

    def full(path: object, *args: object, **options: object) -> object:
        file = real(path, *args, **options)  # type: ignore[call-overload]
        if str(path).endswith(".part"):
            def write(_: bytes) -> int:
                raise OSError(28, "No space left on device")
            return type("Full", (io.BytesIO,), {"write": staticmethod(write)})()
        return file

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(PseError, match="no room left to write") as error:
        fetch(remote(server.url("/x.bin")), tmp_path)
    assert error.value.exit_code == 1 and len(server.seen) == 1


def test_a_second_download_of_the_same_files_is_refused_by_name(server: Server, tmp_path: Path) -> None:
    with atomic.sole_writer(tmp_path), pytest.raises(PseError, match="is being written by .*pid"):
        fetch(remote(server.url("/x.bin")), tmp_path)


def test_the_progress_line_tells_share_rate_and_time_left() -> None:
    meter = Meter("x", 4_000_000_000, io.StringIO())
    meter.add(0)
    meter.done = 1_000_000_000
    assert meter.line(meter._start + 100) == "x  25 % of 4.00 GB  10.0 MB/s  5 min left"


# --- corpora


def archive_of(root: Path, top: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        out.add(root / top, top)
    return buffer.getvalue()


@pytest.fixture
def published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A small MUSAN in place of the real one."""
    for source in ("free-sound", "sound-bible"):
        for n in range(3):
            path = tmp_path / "made" / "musan" / "noise" / source / f"noise-{source}-{n:04d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng(n).normal(0, 0.1, 16000), 4000)
    data = archive_of(tmp_path / "made", "musan")
    server.files["/musan.tar.gz"] = data
    file = Remote("musan.tar.gz", (server.url("/musan.tar.gz"),), len(data), hashlib.md5(data).hexdigest())
    monkeypatch.setitem(download.ARCHIVES, "musan", (Archive("musan", (file,), "musan/noise", 300_000),))
    return server


def test_a_corpus_is_downloaded_verified_unpacked_once(
    published: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = find_or_download("musan", None, tmp_path / "downloads")
    assert len(musan.scan(place, num_valid=1)) == 6
    assert "musan: 0.0 GB to download from 127.0.0.1" in capsys.readouterr().err
    assert not (tmp_path / "downloads" / "musan" / "archives" / "musan.tar.gz").exists()
    assert find_or_download("musan", None, tmp_path / "downloads") == place
    assert len(published.seen) == 1


def test_an_archive_that_is_not_the_published_one_is_never_unpacked(published: Server, tmp_path: Path) -> None:
    data = bytearray(published.files["/musan.tar.gz"])
    data[len(data) // 2] ^= 1
    published.files["/musan.tar.gz"] = bytes(data)
    with pytest.raises(PseError, match="its md5 is"):
        find_or_download("musan", None, tmp_path / "downloads")
    assert not (tmp_path / "downloads" / "musan" / "musan").exists()


def test_a_corpus_removed_after_unpacking_is_fetched_again(published: Server, tmp_path: Path) -> None:
    place = find_or_download("musan", None, tmp_path, keep_archives=True)
    for path in sorted(place.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert len(musan.scan(find_or_download("musan", None, tmp_path), num_valid=1)) == 6
    assert len(published.seen) == 1


def test_too_small_a_disk_is_told_before_the_first_byte(
    published: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 310_000, "total": 1_000})())
    with pytest.raises(PseError, match="downloading musan needs 0.00 GB"):
        find_or_download("musan", None, tmp_path / "downloads")
    assert published.seen == []


def test_a_given_directory_is_only_looked_at(published: Server, tmp_path: Path) -> None:
    assert find_or_download("musan", tmp_path / "made", tmp_path / "d") == tmp_path / "made" / "musan"
    with pytest.raises(PseError, match="holds no noise/free-sound"):
        find_or_download("musan", tmp_path, tmp_path / "d")
    assert published.seen == [] and not (tmp_path / "d").exists()


def test_unknown_corpora_and_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PseError, match="choose one of librispeech, fsd50k, musan"):
        find_or_download("wsj0", None, tmp_path)
    with pytest.raises(PseError, match="train-clean-1000 cannot be downloaded; choose among train-clean-100"):
        find_or_download("librispeech", None, tmp_path, parts=("train-clean-1000",))


def test_disk_need_is_the_highest_point_on_the_way(tmp_path: Path) -> None:
    def one(name: str, load: int, unpacked: int) -> Archive:
        return Archive(name, (Remote(name, ("https://x",), load, "0"),), name, unpacked)

    pair = [one("a", 100, 150), one("b", 10, 20)]
    assert disk_need_bytes(pair, tmp_path) == 250
    assert disk_need_bytes(pair[::-1], tmp_path) == 20 + 250
    assert disk_need_bytes(pair, tmp_path, keep_archives=True) == 100 + 150 + 10 + 20
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "a.part").write_bytes(bytes(40))
    assert disk_need_bytes(pair, tmp_path) == 210


def test_every_published_file_has_https_places_a_size_and_a_checksum() -> None:
    for archives in download.ARCHIVES.values():
        for file in (r for a in archives for r in a.remotes):
            assert all(u.startswith("https://") and file.name in u for u in file.urls)
            assert file.num_bytes > 0 and len(file.md5) == 32 and len(file.sha256) in (0, 64)
    assert set(download.DEFAULT_PARTS) == set(download.ARCHIVES)
