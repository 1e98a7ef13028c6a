"""WSJ0-2mix against the builder's Python port (pywsj0-mix): the 3,000 test mixtures, from WAV files to WAV files.

The tree is made up: noise with the names and the published active levels of WSJ0's utterances. Both programs run as a
user runs them; their files are compared sample by sample.
Run: python benchmarks/wsj0_mix.py --builder CLONE_OF_PYWSJ0_MIX [--python ITS_PYTHON] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from pse.data import wsj0_mix

LIST = "mix_2_spk_tt.txt"


def make_tree(root: Path, lists: Path) -> None:
    """Every utterance of the list as noise of 4 to 8 s at 16 kHz."""
    entries = wsj0_mix.read_published(lists / LIST)
    levels: dict[str, float] = {}
    for path in lists.glob("activlev_*.txt"):
        levels |= wsj0_mix.parse_levels(wsj0_mix.verify(path), path)
    random = np.random.default_rng(0)
    # A tree without any training speech would be refused.
    for name in sorted({p for e in entries for p in e.paths} | {"si_tr_s/20v/20va010q"}):
        path = root / "wsj0" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.standard_normal(int(random.integers(64_000, 128_000)))
        # Half of white noise is lost on the way to 8 kHz.
        soundfile.write(path, noise * (2 * levels[path.stem]) ** 0.5, 16000, subtype="PCM_16")


def lists_for_builder(folder: Path, lists: Path) -> None:
    """The port reads its lists from where it runs, and all three of them: two get a single line."""
    (folder / "metadata" / "activlev").mkdir(parents=True)
    for path in lists.glob("activlev_*.txt"):
        shutil.copy(path, folder / "metadata" / "activlev")
    text = (lists / LIST).read_text()
    for part in ("tr", "cv", "tt"):
        content = text if part == "tt" else text.splitlines(keepends=True)[0]
        (folder / "metadata" / f"mix_2_spk_{part}.txt").write_text(content)


def seconds(command: list[str], out: Path, cwd: Path | None = None) -> float:
    """How long a command takes that begins with an empty directory `out`."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return time.perf_counter() - start


def differences(ours: Path, theirs: Path) -> tuple[int, int]:
    """Files compared, and the largest difference of two samples in steps of 16 bits."""
    most = count = 0
    for kind in ("mix", "s1", "s2"):
        for path in (theirs / "2speakers/wav8k/min/tt" / kind).iterdir():
            a, b = (soundfile.read(p, dtype="int16")[0].astype(int) for p in (path, ours / path.relative_to(theirs)))
            most, count = max(most, int(np.abs(a - b).max())), count + 1
    return count, most


def main() -> None:
    """Compare what can be compared here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builder", type=Path, help="a clone of github.com/mpariente/pywsj0-mix")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--lists_dir", type=Path, help="the published lists, if not those of the builder")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.builder is None:
        print("pywsj0-mix is not there: give --builder")
        return
    with tempfile.TemporaryDirectory() as name:
        root, lists = Path(name), Path(name) / "lists"
        lists.mkdir()
        for path in (options.lists_dir or options.builder / "metadata").rglob("*.txt"):
            if path.name in wsj0_mix.SHA256:
                shutil.copy(path, lists)
        make_tree(root, lists)
        lists_for_builder(root / "builder", lists)
        port = [options.python, str(options.builder.absolute() / "generate_wsjmix.py"), "-p", str(root)]
        port += ["-o", str(root / "theirs"), "--len_mode", "min"]
        pse = [sys.executable, "-m", "pse.cli", "wsj0mix", "--wsj0_dir", str(root), "--lists_dir", str(lists)]
        pse += ["--part", "tt", "-o", str(root / "ours"), "--nj"]
        cores = os.cpu_count() or 1
        print(f"{cores} cores, {platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f};")
        print(f"3,000 mixtures, medians of {options.rounds} alternating rounds")
        taken: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for jobs in sorted({1, cores}):
                taken.setdefault(f"ours, {jobs} processes", []).append(seconds([*pse, str(jobs)], root / "ours"))
            taken.setdefault("pywsj0-mix", []).append(seconds(port, root / "theirs", root / "builder"))
        base = taken.pop("pywsj0-mix")
        print(f"{'pywsj0-mix':<20} {statistics.median(base):6.1f} s")
        for label, times in taken.items():
            ratio = statistics.median(b / t for b, t in zip(base, times, strict=True))
            print(f"{label:<20} {statistics.median(times):6.1f} s   {ratio:5.2f} x")
        files, most = differences(root / "ours", root / "theirs")
        print(f"{files} files; they differ by {most} of 65,536 steps at most")


if __name__ == "__main__":
    main()
