"""Files are written whole or not at all, by one writer at a time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pse.errors import PseError
from pse.io import atomic
from pse.io.atomic import (
    has_writer,
    need_disk,
    reader,
    sole_writer,
    target_of,
    write_many,
    write_text,
    writing,
    writing_dir,
)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a b'c.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(PseError, match="no room left"), writing(path) as file:
        file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "set"
    for content in ("one", "two"):
        with writing_dir(place) as new:
            (new / "sub").mkdir()
            (new / "sub" / content).write_text(content)
    assert os.listdir(place / "sub") == ["two"]
    with pytest.raises(ValueError), writing_dir(place) as new:
        (new / "three").write_text("half")
        raise ValueError
    assert os.listdir(place / "sub") == ["two"]
    assert os.listdir(tmp_path) == ["set"]


def test_many_files_are_written_whole_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many({tmp_path / "a" / "1": b"one", tmp_path / "b" / "2": b"two"})
    assert (tmp_path / "a" / "1").read_bytes() == b"one" and (tmp_path / "b" / "2").read_bytes() == b"two"

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_sync", full)
    with pytest.raises(PseError, match="no room left"):
        write_many({tmp_path / "a" / "1": b"new", tmp_path / "a" / "3": b"three"})
    assert os.listdir(tmp_path / "a") == ["1"] and (tmp_path / "a" / "1").read_bytes() == b"one"


def test_files_of_a_directory_are_synced_once_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = [], []
    monkeypatch.setattr(atomic.os, "fsync", alone.append)
    monkeypatch.setattr(atomic, "_sync", together.append)
    with writing_dir(tmp_path / "d") as new:
        for n in range(3):
            write_text(new / "sub" / str(n), "x")
        assert not alone and not together
    assert sorted(p.name for p in together) == ["0", "1", "2", tmp_path.name] and not alone
    write_text(tmp_path / "d" / "later", "x")
    assert len(alone) == 1


def test_a_killed_writer_leaves_the_old_file_and_the_lock_free(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pse.io.atomic import sole_writer, writing, writing_dir\n"
        "with sole_writer(sys.argv[1]), writing(sys.argv[1] + '/a') as f, writing_dir(sys.argv[1] + '/d') as d:\n"
        "    f.write('half'); f.flush(); (d / 'x').write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    write_text(tmp_path / "a", "old")
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    with pytest.raises(PseError, match=rf"\(kill {child.pid}\), or use another --x"):
        with sole_writer(tmp_path, 0, "use another --x"):
            pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    with sole_writer(tmp_path), writing_dir(tmp_path / "d") as new:
        (new / "y").write_text("whole")
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path / "d") == ["y"]


def test_a_second_writer_of_the_same_process_tree_is_refused(tmp_path: Path) -> None:
    with sole_writer(tmp_path), pytest.raises(PseError, match="being written by"), sole_writer(tmp_path, 0):
        pass
    with sole_writer(tmp_path, 0):
        pass


def test_many_may_read_and_nobody_writes_meanwhile(tmp_path: Path) -> None:
    with reader(tmp_path / "not there"), reader(tmp_path), reader(tmp_path, 0):
        with pytest.raises(PseError, match="another run reads them now; wait for that run or end it, or use --x"):
            with sole_writer(tmp_path, 0, "use --x"):
                pass
        assert not has_writer(tmp_path)
    assert not (tmp_path / "not there").exists()
    with sole_writer(tmp_path, 0):
        assert has_writer(tmp_path)
        with pytest.raises(PseError, match=rf"is being written by .*\(kill {os.getpid()}\)"), reader(tmp_path, 0):
            pass


def test_more_than_the_disk_holds_is_refused_before_writing(tmp_path: Path) -> None:
    need_disk(tmp_path / "not" / "there", 1, "a byte")
    with pytest.raises(PseError, match="needs 1000000000.00 GB"):
        need_disk(tmp_path, 10**18, "everything")


def ended_pid() -> int:
    """The number of a process that is no more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize("name", ["set", "a[1] b*"])
def test_a_directory_that_a_killed_writer_moved_away_is_put_back_or_removed(tmp_path: Path, name: str) -> None:
    place, old = tmp_path / name, tmp_path / f".{name}.old-{ended_pid()}"
    old.mkdir()
    (old / "x").write_text("old")
    with pytest.raises(ValueError), writing_dir(place):
        raise ValueError
    assert os.listdir(tmp_path) == [name] and (place / "x").read_text() == "old"
    old.mkdir()
    with pytest.raises(ValueError), writing_dir(place):
        raise ValueError
    assert os.listdir(tmp_path) == [name] and (place / "x").read_text() == "old"


def test_half_written_files_of_ended_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    kept = [".a.txt.tmp-", ".a.txt.tmp-x1", f".a.txt.tmp-{os.getppid()}", "a.txt.tmp-1"]
    for name in (*kept, f".a.txt.tmp-{ended_pid()}", ".b.txt.tmp-99999999999999999999"):
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "a.txt", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", *kept])


def test_the_target_of_a_temporary_path_is_told() -> None:
    assert target_of(Path("data/.train.tmp-12")) == Path("data/train")
    for path in (Path("data/train"), Path("data/.train.old-12"), Path("data/train.tmp-12")):
        assert target_of(path) == path
    assert target_of(atomic._beside(Path("x/.y"))) == Path("x/.y")


def test_a_directory_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, rename = tmp_path / "set", Path.rename
    with writing_dir(place) as new:
        (new / "x").write_text("old")

    def refuse(self: Path, target: Path) -> Path:
        if ".tmp-" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PseError, match="no room left"), writing_dir(place) as new:
        (new / "x").write_text("new")
    assert os.listdir(tmp_path) == ["set"] and (place / "x").read_text() == "old"
