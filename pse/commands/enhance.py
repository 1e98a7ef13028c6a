"""`pse enhance MODEL in.wav ... -o out/`: clean recordings with a packed model."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pse.errors import PseError

ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au")


def main(argv: Sequence[str]) -> int:
    """Enhance files and directories; same rate, length and channel count come out."""
    parser = argparse.ArgumentParser(prog="pse enhance", description=__doc__)
    parser.add_argument("model", type=Path, help="directory that stage pack made: exp/<tag>/package/<system>")
    parser.add_argument("input", type=Path, nargs="+", help="audio files, or directories of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for the enhanced files")
    args = parser.parse_args(argv)
    pairs = _pairs(args.input, args.output)

    from pse.inference.package import load_model

    if args.output.exists() and not args.output.is_dir():
        raise PseError("is a file, a directory is needed", args.output, "choose another --output")
    model, failed = load_model(args.model), 0
    for source, target in pairs:
        start = time.monotonic()
        try:
            seconds = enhance_file(model, source, target)
        except PseError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        factor = seconds / max(1e-9, time.monotonic() - start)
        print(f"{target}  ({seconds:.1f} s, {factor:.0f} times real time)", flush=True)
    if failed and len(pairs) > 1:
        print(f"{failed} of {len(pairs)} files failed, the others are done", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _pairs(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    pairs: list[tuple[Path, Path]] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
            if not found:
                raise PseError("holds no audio files", path, f"endings: {' '.join(ENDINGS)}")
            pairs += [(p, (output / p.relative_to(path)).with_suffix(".wav")) for p in found]
        else:
            pairs.append((path, output / f"{path.stem}.wav"))
    targets = [t for _, t in pairs]
    twice = sorted({str(t) for t in targets if targets.count(t) > 1})
    if twice:
        raise PseError(f"two inputs would be written to {twice[0]}", "--output", "enhance them one directory at a time")
    same = [s for s, t in pairs if t.exists() and s.exists() and s.samefile(t)]
    if same:
        raise PseError("would be overwritten by its own result", same[0], "choose another --output")
    return pairs


def enhance_file(model: object, source: Path, target: Path) -> float:
    """Enhance one file, all channels; returns its duration in seconds."""
    import numpy as np

    from pse.inference.engine import enhance
    from pse.io import audio

    samples, rate = audio.read_channels(source)
    out = enhance(model, samples, rate)
    audio.write(target, np.ascontiguousarray(out), rate)
    return samples.shape[-1] / rate
