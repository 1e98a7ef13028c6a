"""ESPnet's own training on our mixtures: what is written for it, what stands in for the rest, what is scored."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pse.data.cache_build import build
from pse.data.fixed import FixedMixtures, open_sources, write_fixed
from pse.data.mixture import MixtureSampler
from pse.errors import EnvironmentFault, PseError
from pse.io import audio, datadir
from pse.scoring.tables import read_scores

TOOLS = Path(__file__).resolve().parents[2] / "tools"
RATE, SAMPLES = 16000, 4000
SETS = {"valid": {"speech": "valid", "noise": "noise_valid"}, "test": {"speech": "target_test", "noise": "noise_test"}}


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


data, program = tool("espnet_data"), tool("espnet_program")


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stage features leaves: tones that come and go for speech, noise for noise."""
    root, rng = tmp_path_factory.mktemp("a place"), np.random.default_rng(0)
    time = np.arange(3 * SAMPLES) / RATE
    for name in ("train", "valid", "target_test", "noise_train", "noise_valid", "noise_test"):
        paths = {}
        for number in range(2):
            tone = np.sin(2 * np.pi * (200 + 70 * number) * time) * (np.sin(30 * time) > 0)
            samples = rng.standard_normal(len(time)) if name.startswith("noise") else tone
            paths[f"a-{number}"] = str(root / "wav" / f"{name}-{number}.wav")
            audio.write(paths[f"a-{number}"], (0.1 * samples).astype(np.float32), RATE)
        duration = {u: f"{len(time) / RATE:.6f}" for u in paths}
        tables = {"wav.scp": paths, "utt2spk": dict.fromkeys(paths, "a"), "utt2dur": duration}
        datadir.write(root / "data" / name, tables)
        build(root / "data" / name, root / "dump" / name, RATE, 1, lambda line: None)
    for name, sets in SETS.items():
        sources = open_sources(root / "dump", sets)
        sampler = MixtureSampler(sources, sources.speech.ids, SAMPLES, 0, name)
        write_fixed(root / "dump" / "mixtures" / name, [sampler.spec(n) for n in range(3)], sets)
    return root / "dump"


@pytest.fixture(scope="module")
def written(dump: Path) -> Path:
    data.write_all(dump, dump.parent / "espnet", num_train=4, seed=0)
    return dump.parent / "espnet"


def test_the_written_sets_are_sound_data_directories(written: Path) -> None:
    for name, count in (("train", 4), ("valid", 3), ("test", 3)):
        assert datadir.validate(written / name, sample_rate=RATE) == []
        tables = datadir.read(written / name)
        assert set(tables) == {"wav.scp", "spk1.scp", "noise1.scp", "utt2spk", "utt2num_samples"}
        assert list(tables["utt2num_samples"].values()) == [str(SAMPLES)] * count
    assert (written / "sample_rate").read_text() == f"{RATE}\n"


def test_the_written_mixtures_are_those_of_the_recipe(dump: Path, written: Path) -> None:
    tables = datadir.read(written / "test")
    for spec, mixture in FixedMixtures(dump, "test").render():
        for table, expected in (("wav.scp", mixture.mix), ("spk1.scp", mixture.speech), ("noise1.scp", mixture.noise)):
            samples, _ = audio.read(tables[table][spec.id])
            assert np.abs(samples - expected).max() <= 1 / 32768


def test_the_mixtures_of_training_follow_from_the_seed(dump: Path, written: Path, tmp_path: Path) -> None:
    for seed, same in ((0, True), (1, False)):
        data.write_all(dump, tmp_path / str(seed), num_train=4, seed=seed)
        first, second = (
            b"".join(p.read_bytes() for p in sorted((place / "train" / "audio" / "wav").glob("*.wav")))
            for place in (written, tmp_path / str(seed))
        )
        assert (first == second) == same


def test_the_reference_scores_best_and_the_mixture_gains_nothing(written: Path, tmp_path: Path) -> None:
    truth = written / "test"
    best = data.score_lists(truth, truth / "spk1.scp", ["si_sdr"])
    assert [row.after["si_sdr"] for row in best] == [100.0] * 3
    data.write_report(data.score_lists(truth, truth / "wav.scp", ["si_sdr"]), tmp_path)
    rows = read_scores(tmp_path / "scores.tsv")
    assert all(row.before == row.after and math.isfinite(row.before["si_sdr"]) for row in rows)
    assert {row.speaker for row in rows} == {"a"} and (tmp_path / "summary.json").is_file()


def test_estimates_that_are_missing_or_of_another_rate_are_refused(written: Path, tmp_path: Path) -> None:
    truth = datadir.read(written / "test")["spk1.scp"]
    fewer = tmp_path / "fewer.scp"
    fewer.write_text("".join(f"{k} {v}\n" for k, v in list(truth.items())[1:]))
    with pytest.raises(PseError, match="1 ids are not in both"):
        data.score_lists(written / "test", fewer, ["si_sdr"])
    other = tmp_path / "other.scp"
    audio.write(tmp_path / "slow.wav", np.ones(100, np.float32) / 2, 8000)
    other.write_text("".join(f"{name} {tmp_path}/slow.wav\n" for name in truth))
    with pytest.raises(PseError, match="8000 Hz, its mixture 16000 Hz"):
        data.score_lists(written / "test", other, ["si_sdr"])


def test_what_a_stand_in_offers_fails_with_its_name_when_it_is_called() -> None:
    finder = program.StandIns()
    for name, use in program.STAND_INS.items():
        module = finder.create_module(finder.find_spec(f"{name}.deep.down"))
        assert isinstance(module.Something, type) and not hasattr(module, "__version__")
        with pytest.raises(EnvironmentFault, match=f"{name}.deep.down.Something is not there: {use}"):
            module.Something(1, a=2)
    assert finder.find_spec("espnet2.enh") is None and finder.find_spec("espnet2.textual") is None


def test_a_program_that_is_none_of_espnet_s_for_enhancement_is_refused() -> None:
    for argv in ([], ["asr_train"]):
        with pytest.raises(PseError, match="enh_train, enh_inference"):
            program.main(argv)


@pytest.mark.slow
def test_espnet_s_own_task_trains_on_our_mixtures_and_its_output_is_scored(dump: Path, tmp_path: Path) -> None:
    for needed in ("espnet2", "torch_complex", "humanfriendly", "fast_bss_eval"):
        pytest.importorskip(needed)
    small = tmp_path / "small.yaml"
    text = (TOOLS / "espnet_enh.yaml").read_text(encoding="utf-8")
    assert "unit: 128" in text and "name: snr" in text
    # ESPnet's default criterion, which needs one package more.
    small.write_text(text.replace("unit: 128", "unit: 8").replace("name: snr", "name: si_snr"))
    out = tmp_path / "out of ESPnet"
    command = [str(TOOLS / "train_espnet_task.sh"), "--dumpdir", str(dump), "--outdir", str(out)]
    command += ["--config", str(small), "--num_train", "8", "--set", "max_epoch=1"]
    environment = os.environ | {"PSE_VENV": sys.prefix, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "1epoch results" in done.stdout and "si_snr_loss" in done.stdout
    rows = read_scores(out / "scores" / "scores.tsv")
    assert len(rows) == 3 and all(isinstance(r.after["si_sdr"], float) for r in rows)
