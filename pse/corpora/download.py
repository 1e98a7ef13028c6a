"""Where the public corpora come from, and how they get onto the disk: fetched, verified, unpacked.

LibriSpeech and MUSAN: CC BY 4.0. FSD50K: CC BY 4.0 as a whole, its clips under CC0, CC BY, CC BY-NC
or CC Sampling+ each (FSD50K.metadata).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pse.corpora import fsd50k, librispeech, musan
from pse.errors import PseError
from pse.io.archive import Limits, unpack, unpacked
from pse.io.atomic import need_disk
from pse.io.fetch import Meter, Remote, fetch, stamp

OPENSLR = ("https://www.openslr.org", "https://openslr.trmal.net", "https://openslr.elda.org")
ZENODO = "https://zenodo.org/records/4060432/files"
_3_GIB = 3 << 30


@dataclass(frozen=True)
class Archive:
    """One archive: its files (several for a split zip), the folder that it makes, and its size unpacked."""

    name: str
    remotes: tuple[Remote, ...]
    folder: str
    unpacked_bytes: int

    @property
    def num_bytes(self) -> int:
        """Bytes to download."""
        return sum(r.num_bytes for r in self.remotes)


def _librispeech(subset: str, num_bytes: int, md5: str, sha256: str) -> Archive:
    name = f"{subset}.tar.gz"
    urls = tuple(f"{home}/resources/12/{name}" for home in OPENSLR)
    # FLAC cannot be packed any further: the archive is about as large as what is in it.
    return Archive(
        subset, (Remote(name, urls, num_bytes, md5, sha256),), f"LibriSpeech/{subset}", int(1.03 * num_bytes)
    )


def _fsd50k(name: str, parts: Sequence[tuple[str, int, str]], unpacked_bytes: int) -> Archive:
    remotes = (
        Remote(f"FSD50K.{name}.{end}", (f"{ZENODO}/FSD50K.{name}.{end}?download=1",), size, md5)
        for end, size, md5 in parts
    )
    return Archive(name, tuple(remotes), f"FSD50K.{name}", unpacked_bytes)


# LibriSpeech: MD5 as in OpenSLR's own list, read in PaddleSpeech, dataset/librispeech/librispeech.py;
# bytes and SHA-256 read in TensorFlow Datasets, url_checksums/librispeech.txt.
# FSD50K: MD5 as on the Zenodo record, read in soundata, soundata/datasets/fsd50k.py; bytes as two
# public download tools list them. Unpacked: 80.4 and 27.9 h of 44.1 kHz, 16-bit mono.
# MUSAN: MD5 read in PaddleSpeech, dataset/musan/musan.py; bytes and SHA-256 as two public data
# registers list them. Unpacked: 109 h of 16 kHz, 16-bit mono.
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "librispeech": (
        _librispeech(
            "train-clean-100", 6387309499, "2a93770f6d5c6c964bc36631d331a522",
            "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
        ),
        _librispeech(
            "train-clean-360", 23049477885, "c0e676e450a7ff2f54aeade5171606fa",
            "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
        ),
        _librispeech(
            "dev-clean", 337926286, "42e2234ba48799c1f50f24a7926300a1",
            "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        ),
        _librispeech(
            "test-clean", 346663984, "32fa31d27d2e1cad72775fee3f4849a9",
            "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        ),
    ),
    "fsd50k": (
        _fsd50k("ground_truth", [("zip", 334701, "ca27382c195e37d2269c4c866dd73485")], 4 << 20),
        _fsd50k(
            "dev_audio",
            [
                ("z01", _3_GIB, "faa7cf4cc076fc34a44a479a5ed862a3"),
                ("z02", _3_GIB, "8f9b66153e68571164fb1315d00bc7bc"),
                ("z03", _3_GIB, "1196ef47d267a993d30fa98af54b7159"),
                ("z04", _3_GIB, "d088ac4e11ba53daf9f7574c11cccac9"),
                ("z05", _3_GIB, "81356521aa159accd3c35de22da28c7f"),
                ("zip", 2306663327, "c480d119b8f7a7e32fdb58f3ea4d6c5a"),
            ],
            25_530_000_000,
        ),
        _fsd50k(
            "eval_audio",
            [
                ("z01", _3_GIB, "3090670eaeecc013ca1ff84fe4442aeb"),
                ("zip", 3037675767, "6fa47636c3a3ad5c7dfeba99f2637982"),
            ],
            8_860_000_000,
        ),
    ),
    "musan": (
        Archive(
            "musan",
            (
                Remote(
                    "musan.tar.gz", tuple(f"{home}/resources/17/musan.tar.gz" for home in OPENSLR), 11086114085,
                    "0c472d4fc0c5141eca47ad1ffeb2a7df",
                    "86d1061c7e15b5c9e906777685c519701df51bfde3001e1070dcc9ffac955ee1",
                ),
            ),
            "musan/noise", 12_600_000_000,
        ),
    ),
}  # fmt: skip
DEFAULT_PARTS = {
    "librispeech": ("train-clean-100",),
    "fsd50k": ("ground_truth", "dev_audio", "eval_audio"),
    "musan": ("musan",),
}
_FIND: dict[str, Callable[[str | Path], Path]] = {
    "librispeech": librispeech.find_root, "fsd50k": fsd50k.find_root, "musan": musan.find_root
}  # fmt: skip


def find_or_download(
    kind: str,
    directory: str | Path | None,
    downloads_dir: str | Path,
    parts: Sequence[str] | None = None,
    keep_archives: bool = False,
) -> Path:
    """The directory of corpus `kind` (librispeech, fsd50k, musan), downloaded if none is given.

    A given directory is only looked at. Otherwise the archives of `parts` are fetched into
    `downloads_dir`/<kind>/archives, verified, unpacked into `downloads_dir`/<kind>, and removed
    unless `keep_archives`; what is already there is not fetched again, what broke off continues.
    Raises PseError when the directory is not the corpus, or the disk is too small (told before the
    first byte), EnvironmentFault without network.
    """
    if kind not in ARCHIVES:
        raise PseError(f"{kind!r} is no corpus to download", "corpus", f"choose one of {', '.join(ARCHIVES)}")
    if directory is not None:
        return _FIND[kind](directory)
    wanted = DEFAULT_PARTS[kind] if parts is None else tuple(parts)
    unknown = set(wanted) - {a.name for a in ARCHIVES[kind]}
    if unknown:
        names = ", ".join(a.name for a in ARCHIVES[kind])
        raise PseError(f"{', '.join(sorted(unknown))} cannot be downloaded", kind, f"choose among {names}")
    target = Path(downloads_dir) / kind
    missing = [a for a in ARCHIVES[kind] if a.name in wanted and not _is_there(a, target)]
    if missing:
        _announce(kind, missing, target, keep_archives)
    for archive in missing:
        _get(archive, target, keep_archives)
    return _FIND[kind](target)


def disk_need_bytes(archives: Sequence[Archive], target: Path, keep_archives: bool = False) -> int:
    """The most room that fetching and unpacking the archives, one after the other, takes at once."""
    peak = kept = 0
    for archive in archives:
        there = sum(f.stat().st_size for r in archive.remotes for f in _pieces(target, r) if f.is_file())
        now = archive.num_bytes - min(there, archive.num_bytes)
        peak = max(peak, kept + now + archive.unpacked_bytes)
        kept += archive.unpacked_bytes + (now if keep_archives else -min(there, archive.num_bytes))
    return peak


def _pieces(target: Path, remote: Remote) -> tuple[Path, Path]:
    return target / "archives" / remote.name, target / "archives" / f"{remote.name}.part"


def _is_there(archive: Archive, target: Path) -> bool:
    """Unpacked, and its folder not removed since."""
    return unpacked(target, archive.name) is not None and (target / archive.folder).is_dir()


def _announce(kind: str, archives: Sequence[Archive], target: Path, keep_archives: bool) -> None:
    need = disk_need_bytes(archives, target, keep_archives)
    load, stay = sum(a.num_bytes for a in archives), sum(a.unpacked_bytes for a in archives)
    home = urlsplit(archives[0].remotes[0].urls[0]).hostname
    print(
        f"{kind}: {load / 1e9:.1f} GB to download from {home}, about {stay / 1e9:.1f} GB unpacked in {target}, "
        f"at most {need / 1e9:.1f} GB of disk on the way",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    need_disk(target, need, f"downloading {kind}")


def _get(archive: Archive, target: Path, keep_archives: bool) -> None:
    files = [fetch(remote, target / "archives") for remote in archive.remotes]
    limits = Limits(max_bytes=int(1.5 * archive.unpacked_bytes))
    meter = Meter(f"{archive.name} (unpacking)", archive.unpacked_bytes)
    sums = {r.name: r.md5 for r in archive.remotes}
    try:
        unpack(files, target, archive.name, limits, {"md5": sums}, meter.add)
    finally:
        meter.close()
    if not keep_archives:
        for file in files:
            file.unlink()
            stamp(file).unlink(missing_ok=True)
