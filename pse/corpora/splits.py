"""The per-speaker split of 2104.02017: what is tested, tuned on, enrolled and learned from, by duration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from pse.corpora.base import Recording, tell
from pse.errors import PseError, first_three

PARTS = ("test", "val", "train", "preval", "pretrain")
SECONDS = {"test": 30.0, "val": 30.0, "train": 60.0, "preval": 30.0}
# What is left for `pretrain` should be no less than what the other four parts take together.
SHARE_FOR_PRETRAIN = 0.5


@dataclass(frozen=True)
class SpeakerSplit:
    """The parts of one speaker's speech; scale < 1 where the speech was too little for the full cuts."""

    speaker: str
    parts: dict[str, list[Recording]]
    scale: float = 1.0

    def duration_s(self, part: str) -> float:
        """Seconds of speech in a part."""
        return sum(r.duration_s for r in self.parts[part])

    def describe(self) -> str:
        """One line: utterances and seconds of every part, and the scale where it is not 1."""
        line = ", ".join(f"{p} {len(self.parts[p])} ({self.duration_s(p):.1f} s)" for p in PARTS)
        note = f"; cuts scaled by {self.scale:.2f}, the speaker has little speech" if self.scale < 1 else ""
        return f"{self.speaker}: {line}{note}"


def split_speaker(
    recordings: Sequence[Recording], seconds: Mapping[str, float] | None = None, min_duration_s: float = 4.0
) -> SpeakerSplit:
    """Cut one speaker's utterances into test, val, train, preval and pretrain.

    Utterances of at least `min_duration_s` are sorted by duration (ties by id), shortest first; with
    c_n the duration of the first n+1 of them, a part ends before the utterance n whose c_n is nearest
    to the part's cumulated seconds (30 / 60 / 120 / 150 by default). Over the 20 target speakers
    this gives 3-6 test utterances of 19.7-27.1 s and 92-101 for pretrain (2104.02017).

    Where the speaker has less than twice the last cut, all cuts shrink in proportion, and every part
    keeps at least one utterance. Raises PseError with fewer than five utterances.
    """
    wanted = dict(SECONDS if seconds is None else seconds)
    if set(wanted) != set(PARTS[:-1]) or min(wanted.values()) <= 0:
        raise PseError(f"the split needs positive seconds of {', '.join(PARTS[:-1])}", "data", "correct the config")
    usable = sorted((r for r in recordings if r.duration_s >= min_duration_s), key=lambda r: (r.duration_s, r.id))
    speaker = recordings[0].speaker if recordings else "a speaker"
    if len(usable) < len(PARTS):
        raise PseError(
            f"has {len(usable)} utterances of {min_duration_s:g} s or more, the split needs {len(PARTS)}",
            f"speaker {speaker}",
            "add recordings of this speaker, or lower data.min_duration_s",
        )
    total = sum(r.duration_s for r in usable)
    scale = min(1.0, SHARE_FOR_PRETRAIN * total / sum(wanted.values()))
    bounds = _bounds([r.duration_s for r in usable], [scale * wanted[p] for p in PARTS[:-1]])
    parts = {
        p: [replace(r, split=p) for r in usable[first:last]]
        for p, first, last in zip(PARTS, bounds[:-1], bounds[1:], strict=True)
    }
    return SpeakerSplit(speaker, parts, scale)


def _bounds(durations_s: Sequence[float], seconds: Sequence[float]) -> list[int]:
    """First utterance of every part, and the end: rising, no part empty."""
    cumulated = list(accumulate(durations_s))
    bounds, cut = [0], 0.0
    for k, more in enumerate(seconds):
        cut += more
        nearest = min(range(len(cumulated)), key=lambda n: (abs(cumulated[n] - cut), n))
        # The parts behind this one need an utterance each, too.
        latest = len(durations_s) - (len(seconds) - k)
        bounds.append(min(max(nearest, bounds[-1] + 1), latest))
    return [*bounds, len(durations_s)]


def split_speakers(
    recordings: Sequence[Recording],
    seconds: Mapping[str, float] | None = None,
    min_duration_s: float = 4.0,
    skip_poor: bool = False,
) -> list[SpeakerSplit]:
    """The split of every speaker among `recordings`, in order of first appearance.

    Raises one PseError for all speakers with too little speech; with `skip_poor` they are left out
    and told, and only no speaker at all is an error.
    """
    by_speaker: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        by_speaker[recording.speaker].append(recording)
    done: list[SpeakerSplit] = []
    failed: list[PseError] = []
    for own in by_speaker.values():
        try:
            done.append(split_speaker(own, seconds, min_duration_s))
        except PseError as error:
            failed.append(error)
    if failed and (not skip_poor or not done):
        more = f" (and so have {len(failed) - 1} more speakers)" if len(failed) > 1 else ""
        raise PseError(f"{failed[0].what}{more}", failed[0].where, failed[0].fix)
    if failed:
        tell(f"{len(failed)} speakers have too little speech and are left out: {first_three(e.where for e in failed)}")
    return done
