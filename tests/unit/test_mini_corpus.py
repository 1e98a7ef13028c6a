"""Laws of the embedded corpus: determinism, layout, distinct voices and noises, restarts."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import espeak, mini, mini_parts, noises, sentences, voices
from pse.errors import EnvironmentFault, PseError

REPOSITORY = Path(mini.__file__).resolve().parents[2]
SMALL = {"num_speakers": 3, "seconds_per_speaker": 5, "target_seconds": 12, "noise_share": 0.1}
PLAN = mini_parts.Plan(0, 40, 120.0, 300.0, 1.0)


def contents(root: Path) -> dict[str, bytes]:  # without the lock, which names a process
    files = [p for p in root.rglob("*") if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def level_dbfs(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini")
    mini.make(root, num_jobs=2, **SMALL)
    return root


@pytest.fixture()
def copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


# Determinism


def test_bytes_do_not_depend_on_the_number_of_jobs_nor_on_the_path(corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "a place's name"
    mini.make(other, num_jobs=1, **SMALL)
    assert contents(other) == contents(corpus)


@pytest.mark.parametrize("variant", ["m3", "f2", "klatt4", "Reed", "adam"])
def test_an_utterance_does_not_depend_on_what_was_spoken_before(variant: str) -> None:
    text = "The farmer's dog waited by the river."
    first = espeak.render(text, f"en-us+{variant}", seed=5)
    espeak.render("Something else altogether, at length.", "en-029+f5", rate_wpm=220, pitch=90, seed=77)
    np.testing.assert_array_equal(first, espeak.render(text, f"en-us+{variant}", seed=5))


def test_parts_written_in_another_order_are_the_same(corpus: Path, tmp_path: Path) -> None:
    plan = mini_parts.Plan(0, 3, 5.0, 12.0, 0.1)
    babble = next(c for c in mini_parts.clips(plan) if c.kind == "babble")
    for speaker in reversed(mini_parts.speakers(plan)[1:]):
        mini_parts.write_clip(tmp_path, plan, babble)
        mini_parts.write_speaker(tmp_path, plan, speaker)
    made, whole = contents(tmp_path), contents(corpus)
    assert len(made) >= 5
    assert all(whole[name] == content for name, content in made.items())


def test_another_seed_gives_other_voices_texts_and_noises() -> None:
    assert voices.speaker("F", 0, 0) != voices.speaker("F", 0, 1)
    seeds = [mini_parts.clips(mini_parts.Plan(seed, 40, 120.0, 300.0, 1.0)) for seed in (0, 1)]
    assert [c.seconds for c in seeds[0]] != [c.seconds for c in seeds[1]]


# Layout


def test_speech_is_laid_out_as_librispeech(corpus: Path) -> None:
    base = corpus / "LibriSpeech" / "train-clean-100"
    files = sorted(base.rglob("*.flac"))
    for path in files:
        speaker, chapter, number = re.fullmatch(r"(\d+)-(\d+)-(\d{4})\.flac", path.name).groups()
        assert path.relative_to(base).parts[:2] == (speaker, chapter)
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, "FLAC", "PCM_16")
        assert 4.0 <= info.duration <= 14.0
    lines = [x for p in base.rglob("*-*.trans.txt") for x in p.read_text().splitlines()]
    assert sorted(line.split()[0] for line in lines) == [p.stem for p in files]
    assert all(re.fullmatch(r"\S+( [A-Z']+)+", line) for line in lines)


def test_speakers_txt_reads_as_the_real_one(corpus: Path) -> None:
    rows = [
        [field.strip() for field in line.split("|")]
        for line in (corpus / "LibriSpeech" / "SPEAKERS.TXT").read_text().splitlines()
        if not line.startswith(";")
    ]
    assert [row[:3] for row in rows] == [
        ["19", "F", "train-clean-100"],
        ["32", "F", "train-clean-100"],
        ["298", "F", "train-clean-100"],
    ]
    for row in rows:
        directory = corpus / "LibriSpeech" / "train-clean-100" / row[0]
        spoken = sum(soundfile.info(p).duration for p in directory.rglob("*.flac"))
        assert len(row) == 5 and float(row[3]) == pytest.approx(spoken / 60, abs=0.006)
        assert spoken >= (12 if row[0] == "19" else 5)


def test_noise_is_laid_out_as_fsd50k_and_musan(corpus: Path) -> None:
    truth = corpus / "FSD50K" / "FSD50K.ground_truth"
    vocabulary = {row[1]: row[2] for row in csv.reader((truth / "vocabulary.csv").open())}
    for part, columns in (("dev", "fname labels mids split"), ("eval", "fname labels mids")):
        rows = list(csv.DictReader((truth / f"{part}.csv").open()))
        audio = corpus / "FSD50K" / f"FSD50K.{part}_audio"
        assert list(rows[0]) == columns.split()
        assert {r["fname"] for r in rows} == {p.stem for p in audio.glob("*.wav")}
        for row in rows:
            assert row["mids"].split(",") == [vocabulary[label] for label in row["labels"].split(",")]
            assert soundfile.info(audio / f"{row['fname']}.wav").samplerate == 44100
    for part, number in (("free-sound", 5), ("sound-bible", 2)):
        directory = corpus / "musan" / "noise" / part
        names = [f"noise-{part}-{i:04d}.wav" for i in range(number)]
        assert sorted(p.name for p in directory.glob("*.wav")) == names
        assert (directory / "LICENSE").is_file() and (directory / "ANNOTATIONS").is_file()
        assert all(soundfile.info(p).samplerate == 16000 for p in directory.glob("*.wav"))
    assert all(list((corpus / "musan" / part).rglob("*.wav")) for part in ("music", "speech"))


def test_the_full_plan_holds_what_the_recipe_takes() -> None:
    everyone, clips = mini_parts.speakers(PLAN), mini_parts.clips(PLAN)
    ids = [s.id for s in everyone]
    assert len(set(ids)) == 40 and ids[:2] == ["19", "26"]
    assert [sum(i in group for i in ids) for group in (mini_parts.TEST_IDS, mini_parts.VALID_IDS)] == [8, 4]
    assert [s.sex for s in everyone[:8]] == ["F", "M"] * 4
    assert {s.seconds for s in everyone if s.id in mini_parts.TEST_IDS} == {300.0}
    named = [*mini_parts.TEST_IDS, *mini_parts.VALID_IDS, *mini_parts.TRAIN_IDS]
    assert len(set(named)) == len(named) == 120
    free = [c for c in clips if c.stream == "free-sound"]
    assert len(free) == 48 and {c.kind for c in free[-12:]} == set(noises.KINDS)
    for clip in clips:
        assert clip.seconds <= 12 and (clip.seconds >= 4 or clip.stream in ("dev", "eval"))
    for part in ("dev", "eval"):
        mine = [c for c in clips if c.stream == part]
        assert sum(c.seconds < 4 for c in mine) >= 3 and sum(c.kind == "speech" for c in mine) >= 2
        assert set(noises.KINDS) <= {c.kind for c in mine if c.seconds >= 4}
    assert len({c.path for c in clips}) == len(clips)


# What it sounds like


def test_levels_are_sane_in_every_file(corpus: Path) -> None:
    files = [*corpus.rglob("*.flac"), *corpus.rglob("*.wav")]
    assert len(files) > 20
    for path in files:
        samples, _ = soundfile.read(path, dtype="float32")
        assert np.isfinite(samples).all() and np.abs(samples).max() < 0.95, path
        assert -30 <= level_dbfs(samples) <= -20, path


def test_all_speakers_have_voices_of_their_own_and_bystanders_have_none_of_them() -> None:
    everyone = [voices.speaker(s.sex, s.number, PLAN.seed) for s in mini_parts.speakers(PLAN)]
    assert len({v.name for v in everyone}) == len({v.seed for v in everyone}) == 40
    theirs = {v.name.split("+")[1] for v in everyone}
    crowd = {voices.bystander(np.random.default_rng(i)).name.split("+")[1] for i in range(60)}
    assert len(crowd) >= 6 and not crowd & theirs


def test_every_voice_exists_and_an_unknown_one_is_named() -> None:
    with pytest.raises(PseError, match="'xx\\+m3'"):
        espeak.render("Hello", "xx+m3")
    # espeak-ng falls back to the plain voice for a variant it does not know, without a word.
    tables = (*voices.SPEAKER_VARIANTS.values(), *voices.BYSTANDER_VARIANTS.values())
    names = [name for table in tables for name in table]
    plain = espeak.render("Hello", "en-us+no-such-variant")
    assert all(not np.array_equal(plain, espeak.render("Hello", f"en-us+{name}")) for name in names)
    spoken = {espeak.render("Hello there", f"{accent}+m3").tobytes() for accent in voices.ACCENTS}
    assert len(spoken) == len(voices.ACCENTS)


def test_speakers_differ_more_than_utterances_of_one_speaker() -> None:
    """Long-term spectra name the speaker of an unheard utterance, among twelve."""

    def spectrum(samples: np.ndarray) -> np.ndarray:
        frames = samples[: len(samples) // 512 * 512].reshape(-1, 512) * np.hanning(512)
        edges = np.unique(np.geomspace(3, 256, 33).astype(int))
        bands = 10 * np.log10(np.add.reduceat((np.abs(np.fft.rfft(frames)) ** 2).mean(0), edges[:-1]))
        return bands - bands.mean()

    known, unheard = [], []
    for sex, number in [(sex, number) for sex in "FM" for number in range(6)]:
        voice, rng = voices.speaker(sex, number, 0), np.random.default_rng(number)
        spectra = [spectrum(voices.say(voice, sentences.paragraph(rng, 100), seed)) for seed in range(3)]
        known.append((spectra[0] + spectra[1]) / 2)
        unheard.append(spectra[2])
    distance = np.sqrt(((np.array(unheard)[:, None] - np.array(known)[None]) ** 2).mean(-1))
    assert (distance.argmin(1) == np.arange(12)).all()
    assert np.median(distance) > 3 * np.median(np.diag(distance))


def test_speech_has_the_rhythm_of_syllables() -> None:
    for sex in "FM":
        text = sentences.paragraph(np.random.default_rng(1), 160)
        samples = voices.say(voices.speaker(sex, 1, 0), text, 1).astype(np.float64)
        envelope = np.sqrt(np.convolve(samples**2, np.ones(320) / 320)[::160])
        power = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(envelope)))) ** 2
        rate_hz = np.fft.rfftfreq(len(envelope), 0.01)
        syllabic, all_rates = (rate_hz > 2) & (rate_hz < 8), (rate_hz > 0.3) & (rate_hz < 40)
        assert power[syllabic].sum() > 0.45 * power[all_rates].sum()


def statistics(kind: str, index: int) -> tuple[float, float, float]:
    """Crest factor, variation of the 10-ms level and spectral flatness, all in dB."""
    samples = noises.render(kind, np.random.default_rng([3, index]), 6, 16000, voices.chatter)
    samples = samples.astype(np.float64)
    assert len(samples) == 96000 and -30 <= level_dbfs(samples) <= -20 and np.abs(samples).max() <= 0.9
    crest_db = 20 * np.log10(np.abs(samples).max()) - level_dbfs(samples)
    level = 10 * np.log10((samples.reshape(-1, 160) ** 2).mean(1) + 1e-10)
    frames = samples[: 96000 // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames))[:, 3:448] ** 2 + 1e-14
    flatness_db = 10 * np.mean(np.log10(np.exp(np.log(power).mean(1)) / power.mean(1)))
    return float(crest_db), float(level.std()), float(flatness_db)


def test_noise_classes_differ_as_their_names_say() -> None:
    seen = {kind: np.array([statistics(kind, i) for i in range(5)]) for kind in noises.KINDS}
    crest, varies, flat = ({k: np.median(v[:, i]) for k, v in seen.items()} for i in range(3))
    assert max(crest, key=crest.get) == "impulsive" and crest["impulsive"] > 20
    assert max(varies["stationary"], varies["hum"]) < 3 < varies["babble"] < varies["modulated"]
    assert max(flat["hum"], flat["music"]) < flat["babble"] < min(flat["stationary"], flat["modulated"])
    assert varies["music"] > 2 * varies["hum"]
    for table in seen.values():
        assert all(not np.allclose(a, b) for a, b in pairwise(table))


def test_transcripts_hold_capitals_and_apostrophes_only() -> None:
    assert sentences.transcript("Why, the farmer's dog; it's late?") == "WHY THE FARMER'S DOG IT'S LATE"
    texts = {sentences.sentence(np.random.default_rng(i)) for i in range(200)}
    assert len(texts) > 195 and not any("{" in t or t[0].islower() for t in texts)


# Restarts and faults


def test_a_complete_corpus_is_left_alone(corpus: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in corpus.rglob("*")}
    said: list[str] = []
    mini.make(corpus, num_jobs=2, progress=said.append, **SMALL)
    assert {p: p.stat().st_mtime_ns for p in corpus.rglob("*")} == before
    assert len(said) == 1 and "complete" in said[0]
    marker = json.loads((corpus / ".complete").read_text())
    assert marker["parameters"]["seed"] == 0 and marker["counts"]["flac"] == len(list(corpus.rglob("*.flac")))


def test_a_corpus_with_a_missing_file_is_made_anew(corpus: Path, copy: Path) -> None:
    next(copy.rglob("*.flac")).unlink()
    mini.make(copy, num_jobs=2, **SMALL)
    assert contents(copy) == contents(corpus)


def test_a_half_made_corpus_is_continued(corpus: Path, copy: Path) -> None:
    marker = json.loads((copy / ".complete").read_text())
    (copy / ".making").write_text(json.dumps({"parameters": marker["parameters"]}))
    (copy / ".complete").unlink()
    shutil.rmtree(copy / "LibriSpeech" / "train-clean-100" / "298")
    (copy / "LibriSpeech" / "train-clean-100" / ".298.tmp-1").mkdir()
    (copy / "musan" / "noise" / "free-sound" / ".x.wav.tmp-1").write_bytes(b"half")
    kept = next((copy / "LibriSpeech" / "train-clean-100" / "19").rglob("*.flac"))
    before = kept.stat().st_mtime_ns
    mini.make(copy, num_jobs=1, **SMALL)
    assert contents(copy) == contents(corpus)
    assert kept.stat().st_mtime_ns == before


def command(root: Path, prelude: str = "") -> list[str]:
    """A python command that makes the small corpus and prints a PseError as its one line."""
    script = (
        f"import sys\n{prelude}\nfrom pse.corpora.mini import make\nfrom pse.errors import PseError\n"
        f"try:\n    make({str(root)!r}, num_jobs=2, **{SMALL!r})\n"
        "except PseError as e:\n    sys.exit(str(e))\n"
    )
    return [sys.executable, "-c", script]


def alive(pid: str) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for orphans in /proc")
def test_a_killed_run_leaves_no_orphan_and_is_finished_by_the_same_command(corpus: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command(tmp_path), env=environment)
    while process.poll() is None and not list(tmp_path.rglob("*.flac")):
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    assert process.wait() == -9 and workers
    while any(alive(pid) for pid in workers):
        time.sleep(0.01)
    assert not (tmp_path / ".complete").exists()
    subprocess.run(command(tmp_path), env=environment, check=True)
    assert contents(tmp_path) == contents(corpus)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command(tmp_path, limit), env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and "no room left" in result.stderr
    assert not (tmp_path / ".complete").exists() and (tmp_path / ".making").exists()
    assert all(soundfile.info(p).frames > 0 for p in [*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.flac")])


def test_a_real_corpus_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "LibriSpeech").mkdir()
    with pytest.raises(PseError, match="not of mini"):
        mini.make(tmp_path, **SMALL)
    assert list(tmp_path.rglob("*.flac")) == [] and (tmp_path / "LibriSpeech").is_dir()


def test_a_missing_synthesiser_is_an_environment_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(EnvironmentFault, match="pip install espeakng-loader") as caught:
        mini.make(tmp_path, **SMALL)
    assert caught.value.exit_code == 3 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"num_speakers": 2}, {"num_speakers": 10**6}, {"seed": -1}, {"num_jobs": 0}, {"noise_share": 0},
     {"seconds_per_speaker": 0}, {"target_seconds": float("nan")}],
)  # fmt: skip
def test_impossible_parameters_are_refused_before_a_write(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(PseError):
        mini.make(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()
