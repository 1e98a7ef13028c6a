"""A personal model: what trains and what judges, and the base where nothing was gained."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pse import cli
from pse.data.cache import MemoryCache
from pse.errors import PseError
from pse.inference import builtin, frame_snr
from pse.inference.builtin import package
from pse.inference.package import load_network, save_package
from pse.io import audio
from pse.models.base import Output, build
from pse.personalize import adapt, material, pipeline, verdict
from pse.personalize.check import Check, compare, quality
from pse.personalize.material import Recordings, gaps, own_noises, parts, read_recordings
from pse.personalize.pipeline import personalize
from pse.scoring import perceptual
from pse.scoring.statistics import Difference
from tests.personalize_toy import RATE, Predicted, voice

GRU = {"name": "gru_mask", "hidden_size": 8, "num_layers": 1, "n_fft": 256, "hop": 64, "sample_rate": RATE}
PREDICTOR = {"name": "snr_predictor", "hidden_size": 4, "num_layers": 1, "sample_rate": RATE}


CARD = "# base\n\nLicence: CC BY 4.0. Made from\nthis and that.\n\n## Weights\n"


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, Path | None]:
    """A base, a predictor that takes every frame for one of 10 dB, and no encoder of voices."""
    torch.manual_seed(0)
    predictor = build(PREDICTOR, "test")
    torch.nn.init.zeros_(predictor.snr.weight)
    torch.nn.init.constant_(predictor.snr.bias, 10.0)
    found = {"base": tmp_path / "base", "predictor": tmp_path / "predictor", "voice": None}
    save_package(found["base"], build(GRU, "test"), GRU, CARD)
    save_package(found["predictor"], predictor, PREDICTOR, "# predictor\n")
    return found


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    for number in range(6):
        audio.write(tmp_path / "noisy" / f"{number}.wav", voice(6.0, number), RATE)
    return tmp_path / "noisy"


class Removes(torch.nn.Module):
    """A model that removes a part of a noise which it knows."""

    def __init__(self, noise: np.ndarray, share: float) -> None:
        super().__init__()
        self.basis, self.share, self.sample_rate = torch.from_numpy(noise), share, RATE

    def forward(self, mix: torch.Tensor) -> Output:
        basis = torch.nn.functional.normalize(self.basis[: mix.shape[1]], dim=0)
        return Output(wavs=(mix - self.share * (mix @ basis)[:, None] * basis)[:, None])


def test_no_piece_is_in_two_parts_and_most_are_trained_on() -> None:
    recordings = {f"r{n}": voice(20 + n, n) for n in range(8)}
    found = parts(recordings, RATE, 0, "test")
    every = [name for cache in found.values() for name in cache.ids]
    assert len(every) == len(set(every))
    seconds = {part: sum(cache.num_samples.values()) / RATE for part, cache in found.items()}
    assert sum(seconds.values()) > 0.97 * sum(map(len, recordings.values())) / RATE
    assert seconds["train"] > 0.6 * sum(seconds.values()) > seconds["judge"] > seconds["select"]
    of = {part: {n.split("-")[0] for n in cache.ids} for part, cache in found.items()}
    assert not of["train"] & of["judge"] and len(of["train"] & of["select"]) <= 1


def test_parts_hold_all_of_the_recordings_once() -> None:
    recordings = {f"r{n}": (np.arange(1, 5000) + 5000 * n) * 1e-5 for n in range(20)}
    found = parts(recordings, 1000, 3, "test")
    there = np.concatenate([cache.read(n) for cache in found.values() for n in cache.ids])
    wanted = np.concatenate(list(recordings.values()))
    # Ends of less than half a second go.
    assert len(there) > 0.93 * len(wanted) and len(np.unique(there)) == len(there)
    assert set(there) <= set(wanted)


def test_one_long_recording_is_parted_in_time() -> None:
    found = parts({"r": voice(60)}, RATE, 0, "test")
    assert {part: len(cache.ids) for part, cache in found.items()} == {"train": 5, "select": 3, "judge": 6}
    heard = np.concatenate([cache.read(n) for cache in found.values() for n in cache.ids])
    assert np.array_equal(heard, voice(60))


def test_too_little_to_part_is_refused() -> None:
    with pytest.raises(PseError, match="4.0 s are too little to train, choose and judge with"):
        parts({"r": voice(4)}, RATE, 0, "test")
    with pytest.raises(PseError, match="is silent where"):
        parts({"r": np.concatenate([voice(8), np.zeros(3 * RATE, np.float32)])}, RATE, 0, "test")


def test_what_is_silent_short_or_damaged_is_left_out_and_one_file_is_enough(tmp_path: Path) -> None:
    audio.write(tmp_path / "a" / "good.wav", voice(3), RATE)
    audio.write(tmp_path / "a" / "wide.wav", np.stack([voice(3, 1)] * 2), 2 * RATE)
    audio.write(tmp_path / "a" / "short.wav", voice(0.2), RATE)
    audio.write(tmp_path / "a" / "silent.wav", np.zeros(3 * RATE, np.float32), RATE)
    (tmp_path / "a" / "broken.wav").write_bytes(b"RIFF....WAVE")
    found = read_recordings(tmp_path / "a", RATE)
    assert sorted(len(x) for x in found.samples.values()) == [1.5 * RATE, 3 * RATE]
    alone = read_recordings(tmp_path / "a" / "good.wav", 2 * RATE)
    assert [len(x) for x in alone.samples.values()] == [6 * RATE]
    for name in ("short", "silent"):
        with pytest.raises(PseError, match=name if name == "silent" else "lasts 0.2 s"):
            read_recordings(tmp_path / "a" / f"{name}.wav", RATE)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()
    with pytest.raises(PseError, match="no audio file"):
        read_recordings(tmp_path / "a", RATE)


def test_names_of_a_persons_folders_mean_nothing(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a.wav", "b.wav", "test/c.wav")):
        audio.write(tmp_path / name, voice(3, number), RATE)
    (tmp_path / "MANIFEST.tsv").write_text("path\tspeaker\nelsewhere.wav\tme\n")
    assert read_recordings(tmp_path, RATE).total_s == 9


def test_a_list_names_recordings_that_lie_anywhere(tmp_path: Path) -> None:
    audio.write(tmp_path / "a" / "take.wav", voice(3), RATE)
    audio.write(tmp_path / "b" / "take.flac", voice(4, 1), RATE)
    audio.write(tmp_path / "b" / "not listed.wav", voice(9, 2), RATE)
    listed = tmp_path / "wav.scp"
    listed.write_text(f"one {tmp_path}/a/take.wav\ntwo {tmp_path}/b/take.flac\nthree {tmp_path}/gone.wav\n")
    found = read_recordings(listed, RATE)
    assert {n: len(x) for n, x in found.samples.items()} == {"one": 3 * RATE, "two": 4 * RATE}
    assert sum(map(len, (c.ids for c in parts(found.samples, RATE, 0, "test").values()))) > 2
    listed.write_text(f"three {tmp_path}/gone.wav\n")
    with pytest.raises(PseError, match=r"gone\.wav"):
        read_recordings(listed, RATE)
    listed.write_text("")
    with pytest.raises(PseError, match="is empty"):
        read_recordings(listed, RATE)


def test_long_recordings_are_read_minute_by_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "MINUTE_S", 1.0)
    audio.write(tmp_path / "long.wav", np.stack([voice(360, 0), voice(360, 1)]), 44100)
    read, _ = audio.read(tmp_path / "long.wav", RATE)
    tracemalloc.start()
    found = read_recordings(tmp_path / "long.wav", RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (same,) = found.samples.values()
    assert np.abs(same - read).max() < 1e-6
    # What is kept is there twice while it is put together.
    assert peak < 2 * read.nbytes + 4e6
    assert np.array_equal(next(iter(read_recordings(tmp_path / "long.wav", RATE, 5.0).samples.values()))[: 4 * RATE],
                          same[: 4 * RATE])  # fmt: skip


def test_no_more_is_read_than_there_is_room_for(tmp_path: Path) -> None:
    for number in range(3):
        audio.write(tmp_path / "a" / f"{number}.wav", voice(4, number), RATE)
    assert read_recordings(tmp_path / "a", RATE, longest_s=6).total_s == 6


def test_gaps_are_the_stretches_of_low_snr_and_nothing_else() -> None:
    frames = 101
    samples = np.repeat(np.arange(frames - 1, dtype=np.float32), 160)
    snr = np.full(frames, 20.0)
    snr[20:41] = -20  # samples 3200 to 6400: 0.4 s
    snr[60:66] = -20  # 0.1 s: too short
    snr[70:101] = -20
    found = gaps(samples, snr, RATE)
    fade = round(material.GAP_FADE_S * RATE)
    assert len(found) == 3200 + 4800 - fade
    first, second = found[: 3200 - fade], found[3200:]
    assert np.array_equal(first, samples[3200 : 6400 - fade]) and np.array_equal(second, samples[11200 + fade :])
    assert not len(gaps(samples, np.full(frames, 20.0), RATE))


def test_noises_between_words_are_drawn_as_often_as_synthesised_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "NUM_NOISES", 20)
    recordings = Recordings({f"r{n}": voice(10, n) for n in range(10)}, RATE)
    low = {n: np.full(1 + len(x) // 256, -20.0) for n, x in recordings.samples.items()}
    with_gaps, between_s = own_noises(recordings, low, 0)
    without, none_s = own_noises(recordings, {n: -x for n, x in low.items()}, 0)
    assert between_s == pytest.approx(100, abs=2) and none_s == 0
    for part, cache in with_gaps.items():
        own = [n for n in cache.ids if n.startswith("r")]
        assert 0.5 <= len(own) / len(without[part].ids) <= 2
        assert not any(n.startswith("r") for n in without[part].ids)


def test_silence_between_words_is_no_noise_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "NUM_NOISES", 20)
    gated = np.concatenate([voice(2), np.zeros(2 * RATE, np.float32), voice(2, 1)])
    low = np.full(1 + len(gated) // 256, 20.0)
    low[70:118] = -20
    assert len(gaps(np.where(gated, 0, gated + 0.01).astype(np.float32), low, RATE)) and not len(gaps(gated, low, RATE))
    recordings = Recordings({f"r{n}": gated for n in range(10)}, RATE)
    assert own_noises(recordings, dict.fromkeys(recordings.samples, low), 0)[1] == 0
    # Enough in all, and nothing of it where it should choose and judge.
    ends = Recordings({"r": np.concatenate([voice(8), np.zeros(8 * RATE, np.float32)])}, RATE)
    found, between_s = own_noises(ends, {"r": np.full(501, -20.0)}, 0)
    assert between_s == 0 and all(cache.ids for cache in found.values())


def test_clean_speech_that_is_refused_stops_before_any_training(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "NOISY_DB", 51.0)
    monkeypatch.setattr(pipeline, "train", None)
    with pytest.raises(PseError, match="it is noisy: its speech is only 50 dB"):
        personalize(noisy, tmp_path / "mine", **packages, clean=noisy / "0.wav")


def test_a_long_recording_is_predicted_in_parts_that_add_up() -> None:
    samples = voice(frame_snr.PART_S * 2.1)
    assert abs(len(frame_snr.frame_snr_db(Predicted(3), samples)) - len(samples) / 256) < 4


@pytest.mark.parametrize("predictor", [None, Predicted(20)])
def test_the_check_tells_better_from_worse_and_from_alike(predictor: Predicted | None) -> None:
    hum = np.sin(np.arange(4 * RATE) * 0.8).astype(np.float32)
    speech = MemoryCache({f"p{n}": voice(4, n) for n in range(6)}, "me", RATE)
    noise = MemoryCache({"hum": hum}, "noise", RATE)
    good, half = Removes(hum, 0.9), Removes(hum, 0.5)
    pairs = ((half, good), (good, half), (half, half))
    better, worse, same = (compare(*pair, speech, noise, 0, predictor) for pair in pairs)
    assert better.helped and not worse.helped and not same.helped
    assert better.difference.mean == pytest.approx(-worse.difference.mean) and same.difference.mean == 0
    assert better.personal_db == pytest.approx(better.base_db + better.difference.mean, abs=0.3)


def test_nothing_clear_to_check_on_is_no_help() -> None:
    speech, noise = (MemoryCache({"x": voice(4, n)}, "me", RATE) for n in (0, 1))
    found = compare(Removes(voice(4), 0), Removes(voice(4), 0.5), speech, noise, 0, Predicted(-40))
    assert not found.helped and found.difference.n == 0 and "clear enough to judge by" in found.text


def test_a_gain_that_is_not_sure_is_no_help() -> None:
    assert Check(1, 2, Difference(1.0, 0.9, 5, 0.03, None)).helped
    assert not Check(1, 2, Difference(1.0, 1.1, 5, 0.06, None)).helped
    assert not Check(1, 2, Difference(1.0, None, 1, None, None)).helped


def test_a_person_gets_a_model_with_its_card(noisy: Path, packages: dict[str, Path | None], tmp_path: Path) -> None:
    told: list[str] = []
    made = personalize(noisy, tmp_path / "mine", **packages, minutes=0.05, progress=told.append)
    model = load_network(made.model)
    assert model.sample_rate == RATE and (made.model / "verdict.png").stat().st_size > 1000
    assert "6 recordings, 36 s" in told[0] and told[1] == "noise: 100 synthesised ones, and 0 s from between the words"
    assert "SI-SDR improvement" in told[2] and "DNSMOS" in told[3]
    card = (made.model / "card.md").read_text()
    assert ("A personal model" in card) == made.helped
    # What it was made with and of, what was told of it, and under which licence it is.
    options = f"--base {packages['base'].name} --predictor predictor --voice none --minutes 0.05 --seed 0"
    assert f"`pse personalize noisy -o mine {options}`" in card
    sums = hashlib.sha256((packages["predictor"] / "SHA256SUMS").read_bytes()).hexdigest()
    assert f"- predictor: {packages['predictor']} ({sums[:12]})" in card
    lines = [f"- noisy speech: {line}" for line in told[0].splitlines()] + [f"- {line}" for line in told[1:4]]
    assert all(line in card for line in lines) and "(95 % interval, n = " in card
    assert "\nLicence: CC BY 4.0. Made from\nthis and that.\n" in card and "## Weights" not in card
    assert not (tmp_path / "mine.work").exists()
    with pytest.raises(PseError, match="is there already"):
        personalize(noisy, tmp_path / "mine", **packages, minutes=0.05)


def test_where_nothing_was_gained_the_base_is_packed(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "train", lambda model, *rest: torch.nn.init.zeros_(model.mask.weight))
    told: list[str] = []
    made = personalize(noisy, tmp_path / "mine", **packages, clean=noisy, progress=told.append)
    assert not made.helped and set(made.checks) == {"noisy", "clean"} and "did not help" in told[-1]
    before, after = (load_network(p).state_dict() for p in (packages["base"], made.model))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_clean_speech_trains_on_from_what_helped(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def train(model, config, way, speech, noise, predictor, minutes, place, *rest) -> None:
        steps.append((way.objective, round(minutes, 3), predictor is not None))
        torch.nn.init.constant_(model.mask.bias, float(len(steps)))

    sure = Check(1.0, 2.0, Difference(1.0, 0.5, 5, 0.01, None))
    monkeypatch.setattr(pipeline, "train", train)
    monkeypatch.setattr(pipeline, "compare", lambda *rest: sure)
    made = personalize(noisy, tmp_path / "mine", **packages, clean=noisy / "0.wav", minutes=10)
    assert steps == [("pseudo_se", 8.0, True), ("supervised", 2.0, False)] and made.helped
    assert float(load_network(made.model).mask.bias[0]) == 2.0


def test_a_stopped_training_goes_on_to_the_same_end(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*rest) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "compare", stop)
    with pytest.raises(KeyboardInterrupt):
        personalize(noisy, tmp_path / "mine", **packages, minutes=0.03)
    plan = (tmp_path / "mine.work" / "noisy" / "plan.json").read_bytes()
    monkeypatch.undo()
    with pytest.raises(PseError, match="has begun with another minutes"):
        personalize(noisy, tmp_path / "mine", **packages, minutes=0.04)
    monkeypatch.setattr(adapt, "_examples_in", stop)
    personalize(noisy, tmp_path / "mine", **packages, minutes=0.03)
    assert plan and (tmp_path / "mine" / "model.safetensors").is_file()


def test_a_directory_of_somebody_else_is_no_place_to_work_in(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "mine.work"
    work.mkdir()
    (work / "thesis.tex").write_text("years")
    (work / "verdict.png").write_bytes(b"")
    with monkeypatch.context() as patch, pytest.raises(PseError, match=r"mine\.work: is needed for the training"):
        patch.setattr(pipeline, "load_network", lambda *rest: pytest.fail("a model was loaded"))
        personalize(noisy, tmp_path / "mine", **packages)
    assert (work / "thesis.tex").read_text() == "years"
    # One that was stopped at the picture is its own.
    (work / "thesis.tex").rename(work / ".verdict.png.tmp-999999999")
    monkeypatch.setattr(pipeline, "train", lambda model, *rest: torch.nn.init.zeros_(model.mask.weight))
    personalize(noisy, tmp_path / "mine", **packages)
    assert not work.exists()


def test_noises_with_the_voice_in_them_are_refused(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "train", None)
    monkeypatch.setattr(pipeline, "judge_noises", lambda *given: ("told", f"{len(given[0].samples)} are speech"))
    with pytest.raises(PseError, match="noisy: 6 are speech"):
        personalize(noisy, tmp_path / "mine", **packages, noise_dir=noisy)


def test_an_encoder_of_voices_is_one() -> None:
    class Enhances(torch.nn.Module):
        sample_rate = RATE

        def forward(self, mix: torch.Tensor) -> Output:
            return Output(wavs=mix[:, None])

    for name, refused in (("voice", False), ("gru_256_causal", True), ("dc_blstm", True)):
        models = pipeline._Models(Enhances(), Predicted(10), {}, load_network(package(name)))
        chosen = {"base": "b", "predictor": "p", "voice": name}
        with pytest.raises(PseError, match=f"{name}: tells no voices apart") if refused else nullcontext():
            pipeline._check_models(models, chosen)


@pytest.mark.parametrize(("swap", "told"), [("base", "enhances nobody"), ("predictor", "tells no frame SNR")])
def test_models_of_another_kind_are_refused(
    swap: str, told: str, noisy: Path, packages: dict[str, Path | None], tmp_path: Path
) -> None:
    other = packages["predictor" if swap == "base" else "base"]
    with pytest.raises(PseError, match=told):
        personalize(noisy, tmp_path / "mine", **(packages | {swap: other}))
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"minutes": float("inf")}, "inf minutes"),
        ({"minutes": float("nan")}, "nan minutes"),
        ({"seed": -1}, "a seed of -1"),
        ({"clean": Path("nowhere")}, "nowhere: is not there"),
        ({"noise_dir": Path("nowhere")}, "nowhere: is not there"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_read(
    options: dict[str, Any], told: str, noisy: Path, packages: dict[str, Path | None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(pipeline, "read_recordings", lambda *rest: pytest.fail("recordings were read"))
    with pytest.raises(PseError, match=told):
        personalize(noisy, tmp_path / "mine", **packages, **options)


def test_quality_without_a_reference_where_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    class Louder(Predicted):
        def __call__(self, mix: torch.Tensor) -> Output:
            return Output(wavs=self.level_db * mix[:, None])

    speech = parts({"a": np.full(60 * RATE, 0.1, np.float32)}, RATE, 0, "test")["judge"]
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    assert quality(Louder(2), Louder(3), speech) == "no DNSMOS (speechmos.dnsmos is not installed)"
    loudness = SimpleNamespace(run=lambda x, rate: {"ovrl_mos": 10 * np.abs(x).max()})
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", loudness)
    monkeypatch.setattr(perceptual, "DNSMOS_RATE_HZ", RATE)
    told = quality(Louder(2), Louder(3), speech)
    assert "as they are 1.00, base 2.00, personal 3.00" in told


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_and_the_check_is_on_the_processor(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path
) -> None:
    assert personalize(noisy, tmp_path / "mine", **packages, minutes=0.05, ngpu=1).checks["noisy"].difference.n


def test_the_verb_takes_the_built_in_models(
    noisy: Path, packages: dict[str, Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(pipeline, "train", lambda model, *rest: torch.nn.init.zeros_(model.mask.weight))
    monkeypatch.setattr(builtin, "PLACE", tmp_path / "weights")
    command = ["personalize", str(noisy), "-o", str(tmp_path / "mine")]
    assert cli.main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {builtin.DEFAULTS['enhance']}: no such model directory, and no built-in model")
    for task, package_of in (("enhance", "base"), ("snr_predictor", "predictor")):
        shutil.copytree(packages[package_of], tmp_path / "weights" / builtin.DEFAULTS[task])
    # An encoder of voices is looked for, unless none is wanted.
    assert cli.main(command) == 1 and "error: voice: no such model" in capsys.readouterr().err
    assert cli.main([*command, "--voice", "none"]) == 0
    assert f"pse enhance IN -o OUT --model {tmp_path}/mine" in capsys.readouterr().out
    # A size is another built-in base, and goes with no --base.
    smaller = ["personalize", str(noisy), "-o", str(tmp_path / "small"), "--voice", "none", "--size", "64"]
    assert cli.main(smaller) == 1 and "error: gru_64_causal: no such model" in capsys.readouterr().err
    assert cli.main([*smaller, "--base", "gru_64_causal"]) == 1
    with pytest.raises(PseError, match="there is no built-in model of size 63, or a base"):
        personalize(noisy, tmp_path / "small", size=63)


def test_a_name_that_is_neither_built_in_nor_a_directory_is_refused(tmp_path: Path) -> None:
    assert package(tmp_path) == tmp_path
    with pytest.raises(PseError, match="no such model directory, and no built-in model"):
        package("none_of_these")
