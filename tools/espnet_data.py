"""Mixtures of a recipe as data directories that ESPnet trains on, and scores of what ESPnet makes of them.

    python tools/espnet_data.py write --dumpdir egs/librispeech_pse/dump/mini --datadir data
    python tools/espnet_data.py score --datadir data/test --estimates enhanced/spk1.scp --outdir scores
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pse.cli import guarded
from pse.data.cache import select
from pse.data.fixed import FixedMixtures, open_sources
from pse.data.mixture import Mixture, MixtureSampler
from pse.errors import PseError, first_three
from pse.io import audio, datadir
from pse.io.atomic import write_text, writing_dir
from pse.io.tables import read_table
from pse.scoring.metrics import score
from pse.scoring.tables import ScoreRow, summarise, write_scores, write_summary


def write_set(directory: Path, mixtures: Iterable[tuple[str, str, Mixture]], sample_rate: int) -> int:
    """Write (id, speaker, mixture) as a data directory; returns how many there were.

    `wav.scp` has the mixtures, `spk1.scp` the clean speech, `noise1.scp` the noise; lengths are in
    `utt2num_samples`, which is what ESPnet calls a shape file. Raises PseError where it cannot be written.
    """
    tables: dict[str, dict[str, str]] = {
        name: {} for name in ("wav.scp", "spk1.scp", "noise1.scp", "utt2spk", "utt2num_samples")
    }
    with writing_dir(directory) as new:
        for name, speaker, mixture in mixtures:
            parts = {"wav.scp": mixture.mix, "spk1.scp": mixture.speech, "noise1.scp": mixture.noise}
            for table, samples in parts.items():
                path = Path("audio", table.removesuffix(".scp"), f"{name}.wav")
                audio.write(new / path, samples, sample_rate)
                tables[table][name] = str((directory / path).absolute())
            tables["utt2spk"][name], tables["utt2num_samples"][name] = speaker, str(len(mixture.mix))
        datadir.write_into(new, tables)
    return len(tables["wav.scp"])


def write_all(dump: Path, out: Path, num_train: int, seed: int) -> None:
    """Write out/{train,valid,test}: new mixtures of the training sets, and the recipe's fixed ones.

    out/sample_rate holds their rate in Hz.
    """
    sources = open_sources(dump, {"speech": "train", "noise": "noise_train"})
    fixed = {name: FixedMixtures(dump, name) for name in ("valid", "test")}
    ratios = [s.snr_db for s in fixed["valid"].specs if s.snr_db is not None]
    sampler = MixtureSampler(
        sources, select(sources.speech, None), fixed["valid"].specs[0].num_samples, seed, "espnet",
        (min(ratios), max(ratios)),
    )  # fmt: skip
    specs = [sampler.spec(n) for n in range(num_train)]
    drawn = ((s.id, sources.speech.speaker[s.sources[0].utt], sampler.render(n)) for n, s in enumerate(specs))
    made = {"train": write_set(out / "train", drawn, sources.speech.sample_rate)}
    for name, mixtures in fixed.items():
        rendered = ((s.id, mixtures.speaker(s), m) for s, m in mixtures.render())
        made[name] = write_set(out / name, rendered, mixtures.sources.speech.sample_rate)
    write_text(out / "sample_rate", f"{sources.speech.sample_rate}\n")
    print(f"{out}: " + ", ".join(f"{count} mixtures of {name}" for name, count in made.items()), flush=True)


def score_lists(data: Path, estimates: Path, metrics: Sequence[str]) -> list[ScoreRow]:
    """Scores of estimates: an scp of audio files, against the data directory with wav.scp and spk1.scp.

    Raises PseError when ids differ or an estimate is not at the rate of its mixture.
    """
    truth, made = datadir.read(data), read_table(estimates)
    if "spk1.scp" not in truth:
        raise PseError("has no spk1.scp to score against", data)
    odd = sorted(made.keys() ^ truth["spk1.scp"].keys())
    if odd:
        raise PseError(f"{len(odd)} ids are not in both this list and {data}: {first_three(odd)}", estimates)
    rows = []
    for name, path in made.items():
        (mix, rate), (speech, _) = (audio.read(truth[table][name]) for table in ("wav.scp", "spk1.scp"))
        estimate, found_rate = audio.read(path)
        if found_rate != rate:
            raise PseError(f"{found_rate} Hz, its mixture {rate} Hz", path, "enhance at the rate of the mixtures")
        before, after = (score(speech, x, rate, metrics) for x in (mix, estimate))
        rows.append(ScoreRow(name, truth.get("utt2spk", {}).get(name, name), None, before, after))
    return rows


def write_report(rows: Sequence[ScoreRow], out: Path) -> None:
    """Write out/{scores.tsv, summary.json} and print the means."""
    write_scores(out / "scores.tsv", rows)
    write_summary(out / "summary.json", rows)
    for name, about in summarise(rows)["columns"].items():
        if about["mean"] is not None:
            print(f"{name} {about['mean']:.2f} +- {about['ci95'] or 0.0:.2f} (n = {about['n']})", flush=True)


def main(argv: Sequence[str]) -> int:
    """`write` or `score`; the module's docstring has an example of each."""
    parser = argparse.ArgumentParser(prog="espnet_data", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    write = verbs.add_parser("write", help="write data/{train,valid,test}")
    write.add_argument("--dumpdir", type=Path, required=True, help="what stage features of a recipe made")
    write.add_argument("--datadir", type=Path, required=True, help="where to write")
    write.add_argument("--num_train", type=int, default=200, help="mixtures to draw for training")
    write.add_argument("--seed", type=int, default=0)
    judge = verbs.add_parser("score", help="score estimates against a data directory")
    judge.add_argument("--datadir", type=Path, required=True, help="with wav.scp and spk1.scp")
    judge.add_argument("--estimates", type=Path, required=True, help="an scp of audio files")
    judge.add_argument("--outdir", type=Path, required=True, help="where scores.tsv and summary.json go")
    judge.add_argument("--metrics", nargs="+", default=["si_sdr", "sdr", "estoi"])
    args = parser.parse_args(argv)
    if args.verb == "write":
        write_all(args.dumpdir, args.datadir, args.num_train, args.seed)
    else:
        write_report(score_lists(args.datadir, args.estimates, args.metrics), args.outdir)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
