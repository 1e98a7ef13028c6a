"""Laws of pse.io.ark."""

from __future__ import annotations

import pickle

import kaldiio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pse.errors import PseError
from pse.io.ark import Archive, read_entry, write_ark


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"b": rng.normal(size=(5, 3)), "a": rng.normal(size=7), "c": np.zeros((1, 1))}


def test_an_archive_gives_back_what_was_written(tmp_path, arrays):
    folder = tmp_path / "a b'c"
    assert write_ark(folder / "x.scp", folder / "x.ark", arrays.items()) == 3
    archive = Archive(folder / "x.scp")
    assert list(archive) == ["a", "b", "c"] and len(archive) == 3
    for key, array in arrays.items():
        assert archive[key].dtype == np.float32
        np.testing.assert_array_equal(archive[key], array.astype(np.float32))


def test_kaldiio_reads_our_archives_both_ways(tmp_path, arrays):
    write_ark(tmp_path / "x.scp", tmp_path / "x.ark", arrays.items())
    by_scp = dict(kaldiio.load_scp(str(tmp_path / "x.scp")).items())
    by_ark = dict(kaldiio.load_ark(str(tmp_path / "x.ark")))
    for key, array in arrays.items():
        np.testing.assert_array_equal(by_scp[key], array.astype(np.float32))
        np.testing.assert_array_equal(by_ark[key], array.astype(np.float32))


@pytest.mark.parametrize("items", [[("a b", [1.0])], [("a", [1.0]), ("a", [2.0])], [("a", [])], [("a", [[[1.0]]])]])
def test_what_cannot_be_read_back_is_not_written(tmp_path, items):
    with pytest.raises(PseError):
        write_ark(tmp_path / "x.scp", tmp_path / "x.ark", items)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_leaves_the_old_archive(tmp_path, arrays):
    write_ark(tmp_path / "x.scp", tmp_path / "x.ark", arrays.items())

    def broken():
        yield "a", np.ones(3)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_ark(tmp_path / "x.scp", tmp_path / "x.ark", broken())
    np.testing.assert_array_equal(Archive(tmp_path / "x.scp")["a"], arrays["a"].astype(np.float32))


def test_no_command_and_no_pickle_is_ever_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "PWNED"), "w"))

    ark = tmp_path / "x.ark"
    ark.write_bytes(b"k PKL" + pickle.dumps(Trap()))
    for place in (f"{ark}:2", f"touch {tmp_path}/PWNED |", f"| touch {tmp_path}/PWNED", str(ark), "-"):
        with pytest.raises(PseError):
            read_entry(place)
    assert not (tmp_path / "PWNED").exists()


@given(
    cut=st.integers(0, 83),
    changes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_archive_is_one_clear_error_or_an_array(tmp_path_factory, cut, changes):
    folder = tmp_path_factory.mktemp("ark")
    write_ark(folder / "x.scp", folder / "x.ark", [("k", np.ones((4, 4)))])
    content = bytearray((folder / "x.ark").read_bytes())
    for place, byte in changes:
        content[place] = byte
    (folder / "x.ark").write_bytes(content[:cut])
    try:
        assert read_entry(f"{folder}/x.ark:2").dtype == np.float32
    except PseError as error:
        assert "\n" not in str(error) and "x.ark" in str(error)
