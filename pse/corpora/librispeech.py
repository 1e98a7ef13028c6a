"""LibriSpeech as it is unpacked from OpenSLR 12: FLAC files by reader and chapter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pse.corpora.base import Recording, check_ids, measured, need_directory, refusal, tell, walk
from pse.errors import PseError, first_three

SUBSETS = (
    "train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other"
)  # fmt: skip
# The speakers of 2104.02017: 20 to personalise to, 20 to validate generalists on, all readers of
# train-clean-100; the other 211 of that subset train the generalists.
TEST_SPEAKERS = {
    "F": ("19", "39", "40", "83", "87", "89", "125", "198", "200", "250"),
    "M": ("26", "78", "118", "163", "196", "201", "254", "307", "405", "446"),
}
VALID_SPEAKERS = {
    "F": ("298", "302", "322", "426", "587", "730", "887", "1116", "1263", "1502"),
    "M": ("1235", "1594", "1723", "1867", "2159", "2289", "2436", "2518", "2911", "2952"),
}
ROLES = {
    **{s: "test" for ids in TEST_SPEAKERS.values() for s in ids},
    **{s: "valid" for ids in VALID_SPEAKERS.values() for s in ids},
}
_SEX = {s: sex for table in (TEST_SPEAKERS, VALID_SPEAKERS) for sex, ids in table.items() for s in ids}
_ID = re.compile(r"(\d+)-(\d+)-\d+")
FIX = "give the directory that holds LibriSpeech/, or leave --librispeech_dir out to download it"


def find_root(root: str | Path) -> Path:
    """The directory with the subsets: `root` itself or `root`/LibriSpeech. PseError when it is neither."""
    root = need_directory(root, FIX)
    for place in (root, root / "LibriSpeech"):
        if any((place / s).is_dir() for s in SUBSETS):
            return place
    raise PseError(f"holds no LibriSpeech subset ({SUBSETS[0]}, ...)", root, FIX)


def read_speakers(root: Path) -> dict[str, str]:
    """Reader -> F or M out of SPEAKERS.TXT; of the published 40 also without that file."""
    path = root / "SPEAKERS.TXT"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        tell(f"{path} is missing: the sex of most readers is unknown")
        return dict(_SEX)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.strip() and line[0] != ";"]
    bad = [" | ".join(r) for r in rows if len(r) < 2 or not r[0].isdigit() or r[1] not in ("F", "M")]
    if bad:
        raise PseError(f"{len(bad)} lines are not `id | F or M | ...`: {first_three(bad)}", path, "restore the file")
    return _SEX | {r[0]: r[1] for r in rows}


def scan(
    root: str | Path, subsets: Sequence[str] = ("train-clean-100",), need_targets: bool = True
) -> list[Recording]:
    """All utterances of the subsets, in order of speaker and id.

    id is the file's stem, category the reader's sex, split the reader's role: `test` for the 20
    target speakers, `valid` for the 20 validation speakers, `train` for all others. FLAC is taken
    before a WAV of the same name. A partial tree is accepted: published speakers that are missing
    are told. Raises PseError for a missing subset, ids that do not fit their directories or occur
    twice, files that cannot be read, and (need_targets) train-clean-100 without any target speaker.
    """
    root = find_root(root)
    missing = [s for s in subsets if not (root / s).is_dir()]
    if missing:
        raise PseError(f"has no {', '.join(missing)}", root, FIX)
    sexes = read_speakers(root)
    drafts: list[Recording] = []
    faults: list[str] = []
    for subset in subsets:
        for path in _utterances(root / subset):
            speaker = _speaker_of(path.relative_to(root / subset))
            if speaker is None:
                faults.append(f"{path}: the name does not fit <reader>/<chapter>/<reader>-<chapter>-<number>")
            else:
                role = ROLES.get(speaker, "train")
                drafts.append(Recording(path.stem, path, speaker, category=sexes.get(speaker, ""), split=role))
    if faults:
        raise refusal(faults, len(drafts) + len(faults), root, "move these files out of the tree")
    check_ids(drafts, root)
    if need_targets and "train-clean-100" in subsets:
        _tell_missing({d.speaker for d in drafts}, root)
    return sorted(measured(drafts, root), key=lambda r: (int(r.speaker), r.id))


def _utterances(directory: Path) -> list[Path]:
    """Audio files; where a conversion to WAV lies beside its FLAC, the FLAC."""
    found = {p.with_suffix(""): p for p in walk(directory) if p.suffix.lower() == ".wav"}
    found |= {p.with_suffix(""): p for p in walk(directory) if p.suffix.lower() == ".flac"}
    return list(found.values())


def _speaker_of(relative: Path) -> str | None:
    match = _ID.fullmatch(relative.stem)
    return match[1] if match and relative.parts[:-1] == (match[1], match[2]) else None


def _tell_missing(present: Iterable[str], root: Path) -> None:
    present = set(present)
    lost = {role: [s for s, r in ROLES.items() if r == role and s not in present] for role in ("test", "valid")}
    if len(lost["test"]) == 20:
        raise PseError(f"none of the 20 target speakers is there ({first_three(lost['test'])})", root, FIX)
    for role, name in (("test", "target"), ("valid", "validation")):
        if lost[role]:
            tell(f"{root}: {len(lost[role])} of the 20 {name} speakers are missing: {first_three(lost[role])}")


PLUGIN = scan
