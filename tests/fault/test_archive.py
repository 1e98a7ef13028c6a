"""Hostile and broken archives leave nothing behind; good ones, also split ones, unpack whole."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pse.errors import PseError
from pse.io import archive, splitzip
from pse.io.archive import Limits, unpack, unpacked

CONTENT = {f"top/sub {n}/file{n}.bin": np.random.default_rng(n).bytes(30_000 + n) for n in range(6)}
Entry = tuple[str, bytes, dict[str, object]]


def tar(path: Path, entries: list[Entry], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, data, fields in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            out.addfile(info, io.BytesIO(data))
    return path


def good(content: dict[str, bytes] = CONTENT) -> list[Entry]:
    return [(n, d, {}) for n, d in content.items()]


def zipped(path: Path, names: dict[str, bytes], mode: int = 0, **options: int) -> Path:
    with zipfile.ZipFile(path, "w", **options) as out:
        for name, data in names.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = options.get("compression", zipfile.ZIP_STORED)
            out.writestr(info, data)
    return path


def tree(root: Path) -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }


# --- hostile: each makes an archive; nothing of it may be there afterwards.


def absolute(p: Path) -> Path:
    return tar(p, [*good(), ("/tmp/evil", b"x", {})])


def parent(p: Path) -> Path:
    return tar(p, [*good(), ("top/../../evil", b"x", {})])


def soft_link(p: Path) -> Path:
    return tar(p, [("top/out", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc"}), ("top/out/x", b"x", {})])


def hard_link(p: Path) -> Path:
    return tar(p, [*good(), ("top/h", b"", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"})])


def device(p: Path) -> Path:
    return tar(p, [*good(), ("top/null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})])


def pipe(p: Path) -> Path:
    return tar(p, [*good(), ("top/pipe", b"", {"type": tarfile.FIFOTYPE})])


def marker(p: Path) -> Path:
    return tar(p, [*good(), (".corpus.complete", b"{}", {})])


def twice(p: Path) -> Path:
    return tar(p, [*good(), ("top/sub 0/FILE0.bin", b"other", {})])


def file_as_folder(p: Path) -> Path:
    return tar(p, [("top", b"a file", {}), *good()])


def long_name(p: Path) -> Path:
    return tar(p, [*good(), ("top/" + "a" * 300, b"x", {})])


def control_name(p: Path) -> Path:
    return tar(p, [*good(), ("top/a\nb", b"x", {})])


def huge_header(p: Path) -> Path:
    return tar(p, [("top/x", b"x", {"pax_headers": {"comment": "0" * (1 << 20)}})])


def header_chain(p: Path) -> Path:
    block = tarfile.TarInfo("x").create_pax_global_header({"comment": "0"})
    with gzip.open(p, "wb") as out:
        out.write(block * 3000)
    return p


def bomb(p: Path) -> Path:
    return tar(p, [("top/zeros", bytes(8 << 20), {})])


def zip_parent(p: Path) -> Path:
    return zipped(p, {**CONTENT, "../evil": b"x"})


def zip_absolute(p: Path) -> Path:
    return zipped(p, {**CONTENT, "/tmp/evil": b"x"})


def zip_windows(p: Path) -> Path:
    return zipped(p, {**CONTENT, "C:evil": b"x", "top\\..\\evil": b"x"})


def zip_link(p: Path) -> Path:
    return zipped(p, {"top/link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)


def zip_bomb(p: Path) -> Path:
    return zipped(p, {"top/zeros": bytes(8 << 20)}, compression=zipfile.ZIP_DEFLATED)


def zip_encrypted(p: Path) -> Path:
    data = bytearray(zipped(p, CONTENT).read_bytes())
    for signature, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        place = data.find(signature)
        data[place + at] |= 1
    p.write_bytes(data)
    return p


def zip_overlap(p: Path) -> Path:
    data = bytearray(zipped(p, {"top/a": bytes(1000), "top/b": bytes(1000)}).read_bytes())
    second = data.rfind(b"PK\1\2")
    # Both directory entries name the bytes of the first member.
    data[second + 42 : second + 46] = bytes(4)
    p.write_bytes(data)
    return p


HOSTILE = [
    absolute, parent, soft_link, hard_link, device, pipe, marker, twice, file_as_folder, long_name, control_name,
    huge_header, header_chain, bomb, zip_parent, zip_absolute, zip_windows, zip_link, zip_bomb, zip_encrypted,
    zip_overlap,
]  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE, ids=lambda f: f.__name__)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    place = tmp_path / "a" / "b" / "out"
    path = make(tmp_path / "archive")
    with pytest.raises(PseError) as error:
        unpack(path, place, "corpus")
    assert "\n" not in str(error.value) and error.value.where == path
    assert tree(tmp_path) == {"archive": path.read_bytes()}
    assert sorted(p.name for p in place.iterdir()) == [".lock"]
    assert unpacked(place, "corpus") is None


@pytest.mark.parametrize("limits", [Limits(max_members=5), Limits(max_bytes=100_000)])
def test_limits_on_members_and_bytes_are_kept(tmp_path: Path, limits: Limits) -> None:
    for path in (tar(tmp_path / "a.tgz", good()), zipped(tmp_path / "a.zip", CONTENT)):
        with pytest.raises(PseError, match="more than"):
            unpack(path, tmp_path / "out", "corpus", limits)
    assert tree(tmp_path / "out") == {}


# --- damage


@pytest.mark.parametrize("kind", ["w:gz", "w:", "zip"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_a_cut_archive_is_damaged_whatever_is_left_of_it(tmp_path: Path, kind: str, keep: float) -> None:
    path = zipped(tmp_path / "a", CONTENT) if kind == "zip" else tar(tmp_path / "a", good(), kind)
    size = path.stat().st_size if kind != "w:" else sum(512 + -(-len(d) // 512) * 512 for d in CONTENT.values())
    os.truncate(path, int(size * keep))
    with pytest.raises(PseError, match="is damaged|holds no file"):
        unpack(path, tmp_path / "out", "corpus")
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", ["w:gz", "zip"])
def test_a_flipped_byte_in_the_content_is_noticed(tmp_path: Path, kind: str) -> None:
    path = zipped(tmp_path / "a", CONTENT) if kind == "zip" else tar(tmp_path / "a", good(), kind)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(PseError, match="is damaged"):
        unpack(path, tmp_path / "out", "corpus")


def test_a_broken_header_in_the_middle_of_a_tar_is_not_taken_for_its_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", good(), "w:")
    data = bytearray(path.read_bytes())
    data[data.find(b"top/sub 3") + 150] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(PseError, match="breaks off in the middle"):
        unpack(path, tmp_path / "out", "corpus")


def test_a_web_page_in_place_of_an_archive_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>log in first</html>" * 100)
    with pytest.raises(PseError, match="is damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "corpus")


# --- good


@pytest.mark.parametrize("kind", ["w:gz", "w:", "zip", "dots"])
def test_what_was_packed_is_unpacked(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "zip":
        zipped(path, {"top/": b"", **CONTENT}, compression=zipfile.ZIP_DEFLATED)
    elif kind == "dots":
        tar(path, [("./", b"", {"type": tarfile.DIRTYPE}), *good({f"./{n}": d for n, d in CONTENT.items()})])
    else:
        tar(path, [("top", b"", {"type": tarfile.DIRTYPE, "mode": 0}), *good()], kind)
    seen: list[int] = []
    told = unpack(path, tmp_path / "out", "corpus", notes={"md5": "x"}, progress=seen.append)
    assert tree(tmp_path / "out") == CONTENT
    assert told == unpacked(tmp_path / "out", "corpus") == {"md5": "x", "files": 6, "bytes": sum(seen)}
    assert all(stat.S_IMODE(p.stat().st_mode) & 0o600 for p in (tmp_path / "out").rglob("*"))


def test_two_archives_share_a_directory(tmp_path: Path) -> None:
    for name in ("one", "two"):
        unpack(tar(tmp_path / name, good({f"top/{name}/x": b"x", "top/README": b"same"})), tmp_path / "out", name)
    assert set(tree(tmp_path / "out")) == {"top/one/x", "top/two/x", "top/README"}


def test_half_an_unpacking_is_done_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "a", good())
    leftover = tmp_path / "out" / ".unpacking-corpus" / "top" / "half"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"x")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archive, "_move", killed)
        unpack(path, tmp_path / "out", "corpus")
    assert unpacked(tmp_path / "out", "corpus") is None and tree(tmp_path / "out") == {}
    unpack(path, tmp_path / "out", "corpus")
    assert tree(tmp_path / "out") == CONTENT


def test_a_link_in_the_destination_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "top").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PseError, match="leads out of the directory"):
        unpack(tar(tmp_path / "a", good()), tmp_path / "out", "corpus")
    assert tree(tmp_path / "elsewhere") == {}


# --- split zips


def cut(path: Path, size: int) -> list[Path]:
    """Split a stored zip into parts of `size` bytes, as a zip tool does: every offset from its part's start."""
    data = bytearray(b"PK\7\10" + path.read_bytes())
    end = data.rfind(b"PK\5\6")
    total, length, begin = struct.unpack_from("<HLL", data, end + 10)
    at = begin + 4
    for _ in range(total):
        names = sum(struct.unpack_from("<3H", data, at + 28))
        (offset,) = struct.unpack_from("<L", data, at + 42)
        struct.pack_into("<H", data, at + 34, (offset + 4) // size)
        struct.pack_into("<L", data, at + 42, (offset + 4) % size)
        at += 46 + names
    last, first = (len(data) - 1) // size, (begin + 4) // size
    struct.pack_into("<4H2L", data, end + 4, last, first, total, total, length, (begin + 4) % size)
    parts = [path.with_suffix(f".z{n + 1:02d}") for n in range(last)] + [path]
    for n, part in enumerate(parts):
        part.write_bytes(data[n * size : (n + 1) * size])
    return parts


@pytest.mark.parametrize("size", [7_000, 50_000, 65_537, 150_000])
def test_a_split_zip_is_read_without_joining_it(tmp_path: Path, size: int) -> None:
    parts = cut(zipped(tmp_path / "x.zip", CONTENT), size)
    assert len(parts) > 1 and splitzip.parts_of(tmp_path / "x.zip") == parts
    unpack(parts, tmp_path / "out", "corpus")
    assert tree(tmp_path / "out") == CONTENT


def test_the_plain_concatenation_of_a_split_zip_is_not_a_zip(tmp_path: Path) -> None:
    # Why the directory has to be rewritten.
    parts = cut(zipped(tmp_path / "x.zip", CONTENT), 50_000)
    joined = io.BytesIO(b"".join(p.read_bytes() for p in parts))
    with pytest.raises(zipfile.BadZipFile), zipfile.ZipFile(joined) as plain:
        plain.testzip()
        plain.read(next(iter(CONTENT)))


@pytest.mark.skipif(shutil.which("zip") is None, reason="the zip program is not installed")
@pytest.mark.parametrize("level", ["-0", "-6"])
def test_a_zip_split_by_the_zip_program_is_read(tmp_path: Path, level: str) -> None:
    for name, data in CONTENT.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    subprocess.run(["zip", level, "-q", "-s", "64k", "-r", "../x.zip", "top"], cwd=tmp_path / "in", check=True)
    parts = splitzip.parts_of(tmp_path / "x.zip")
    assert len(parts) == 3
    unpack(parts, tmp_path / "out", "corpus")
    assert tree(tmp_path / "out") == CONTENT


def test_a_zip_cut_at_arbitrary_bytes_is_read_too(tmp_path: Path) -> None:
    data = zipped(tmp_path / "x.zip", CONTENT).read_bytes()
    for n, name in enumerate(("x.z01", "x.z02", "x.zip")):
        (tmp_path / name).write_bytes(data[n * 70_000 : (n + 1) * 70_000])
    unpack(splitzip.parts_of(tmp_path / "x.zip"), tmp_path / "out", "corpus")
    assert tree(tmp_path / "out") == CONTENT


def test_a_missing_part_is_counted(tmp_path: Path) -> None:
    parts = cut(zipped(tmp_path / "x.zip", CONTENT), 50_000)
    for some in (parts[-1:], parts[1:], [parts[0], *parts[2:]]):
        with pytest.raises(PseError, match=f"has {len(parts)} parts, {len(some)} are there; download all parts"):
            unpack(some, tmp_path / "out", "corpus")
    assert tree(tmp_path / "out") == {}
