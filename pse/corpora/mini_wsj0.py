"""The embedded corpus as WSJ0 lies on its discs: SPHERE files by set and speaker, and the speakers' table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pse.corpora import librispeech
from pse.corpora.base import Recording
from pse.io import audio
from pse.io.atomic import writing_dir
from pse.io.jsonl import read_json, write_json

# Half of the speakers for tests in each of the two test sets, as on the discs.
TRAIN, TESTS = "si_tr_s", ("si_dt_05", "si_et_05")
HEADER_BYTES = 1024


def lay_out(source: Path, target: Path) -> Path:
    """Write the mini LibriSpeech in `source` as a WSJ0 tree; one that is there already is left alone.

    Its target speakers become those of the test sets. Speakers have names of three digits, utterances of
    eight characters, like `00fa0003`.
    """
    recordings = librispeech.scan(source, need_targets=False)
    plan = [[r.id, r.duration_s] for r in recordings]
    marker = target / "made_of.json"
    if marker.is_file() and read_json(marker) == plan:
        return target
    by_speaker: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    lines = ["; id sex"]
    with writing_dir(target) as new:
        tests = 0
        for number, (_, spoken) in enumerate(by_speaker.items()):
            speaker, subset = f"{number:03d}", TRAIN
            if spoken[0].split == "test":
                subset, tests = TESTS[tests % 2], tests + 1
            lines.append(f"{speaker} {spoken[0].category}")
            for place, recording in enumerate(spoken):
                path = new / subset / speaker / f"{speaker}a{place:04d}.wv1"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_sphere(*audio.read(recording.path)))
        (new / "wsj0-train-spkrinfo.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
        write_json(new / marker.name, plan)
    return target


def _sphere(samples: np.ndarray, sample_rate: int) -> bytes:
    """A NIST SPHERE 1A file of samples [T]: 16-bit PCM, big-endian as LDC's are."""
    pcm = np.round(samples * 32768).clip(-32768, 32767).astype(">i2")
    fields = [
        f"sample_count -i {len(pcm)}", f"sample_rate -i {sample_rate}", "channel_count -i 1", "sample_n_bytes -i 2",
        "sample_byte_format -s2 10", "sample_coding -s3 pcm",
    ]  # fmt: skip
    head = "\n".join(["NIST_1A", f"{HEADER_BYTES:7d}", *fields, "end_head", ""]).encode()
    return head.ljust(HEADER_BYTES) + pcm.tobytes()
