"""Stages 0 to 2 of the separation recipe on WSJ0: the published lists decide speech, levels and mixtures."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pse.data import wsj0_lists, wsj0_mix
from pse.data.fixed import FixedMixtures
from pse.data.scene import render_sources
from pse.dsp.active_level import active_level
from pse.errors import PseError, StageMissingError
from pse.io import datadir, sound
from pse.recipe.options import Context, add_arguments, context
from pse.recipe.separation import corpus, features, training
from tests.speech_toy import burst
from tests.sphere_files import sphere

DIRECTORY = Path(__file__).resolve().parents[2] / "egs" / "wsj0_2mix_dc"
# Set -> its utterances, two of one speaker; tr and cv are of the same speakers.
UTTS = {
    "tr": [f"si_tr_s/{u[:3]}/{u}" for u in ("01ta0101", "02ca0101", "40ba0101", "40ba0103", "40ca0101")],
    "cv": [f"si_tr_s/{u[:3]}/{u}" for u in ("01ta0202", "02ca0202", "40ba0202", "40ba0204", "40ca0202")],
    "tt": [
        "si_dt_05/050/050a0101", "si_et_05/440/440a0101", "si_et_05/441/441a0101", "si_dt_05/050/050a0102",
        "si_dt_05/051/051a0101",
    ],
}  # fmt: skip


def _line(utts: list[str], gains: tuple[float, ...]) -> str:
    return " ".join(f"wsj0/{u}.wav {g}" for u, g in zip(utts, gains, strict=True)) + "\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A WSJ0 tree, and lists of two mixtures of two speakers and one of three to five for each set."""
    rng, levels = np.random.default_rng(0), {}
    for utts in UTTS.values():
        for number, utt in enumerate(utts):
            samples = burst(rng, 33000 + 500 * number, 400.0 + 700 * number)
            path = tmp_path / "wsj0" / "disc" / f"{utt}.wv1"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sphere(np.round(32768 * samples)))
            heard = wsj0_mix.resample(sound.read(path)[0], 16000, 8000)
            levels.setdefault(utt.split("/")[0], {})[path.stem] = active_level(heard, 8000).power
    lists = tmp_path / "lists"
    lists.mkdir()
    for part, utts in UTTS.items():
        pairs = _line(utts[:2], (1.2, -1.2)) + _line(utts[1:3], (0.3, -0.3))
        (lists / f"mix_2_spk_{part}.txt").write_text(pairs)
        (lists / f"mix_3_spk_{part}.txt").write_text(_line(utts[2:], (2.0, -2.0, 0.0)))
        if part != "tr":
            (lists / f"mix_4_spk_{part}.txt").write_text(_line(utts[:4], (1.5, -1.5, 0.5, -0.5)))
            (lists / f"mix_5_spk_{part}.txt").write_text(_line(utts, (1.4, -1.4, 0.4, -0.4, 0.0)))
    for name, powers in levels.items():
        (lists / f"activlev_{name}.txt").write_text("".join(f"{u} {p:.9g}\n" for u, p in powers.items()))
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in lists.iterdir()}
    monkeypatch.setattr(wsj0_mix, "SHA256", sums)
    assert set(sums) == set(wsj0_lists.OF_RECIPES)
    monkeypatch.setattr(wsj0_lists, "NUM_BYTES", dict.fromkeys(sums, 0))
    original = wsj0_mix.read_published
    counts = {"2": 2, "3": 1, "4": 1, "5": 1}

    def read_published(path: Path) -> list[wsj0_mix.Entry]:
        part = Path(path).stem.split("_")
        monkeypatch.setattr(wsj0_mix, "COUNTS", dict.fromkeys(UTTS, counts[part[1]]))
        return original(path)

    monkeypatch.setattr(wsj0_mix, "read_published", read_published)
    return tmp_path


def _prepare() -> object:
    spec = importlib.util.spec_from_file_location("prepare_wsj0", DIRECTORY / "local" / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _context(place: Path, *settings: str) -> Context:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    roots = [x for d in ("data", "dump", "exp") for x in (f"--{d}dir", str(place / d))]
    more = (f"{s}_{n}: {{speech: {s}, num_speakers: {n}}}" for s, n in (("open", 3), ("closed", 4), ("open", 5)))
    tests = f"{{closed_2: {{speech: closed}}, open_2: {{speech: open}}, {', '.join(more)}}}"
    argv = [
        "--recipe", "separation", "--recipe_dir", str(DIRECTORY), "--corpus", "wsj0", "--wsj0_dir", str(place / "wsj0"),
        "--lists_dir", str(place / "lists"), "--set", "pretrain={}", "--set", f"mixture.tests={tests}", *roots,
        *(x for s in settings for x in ("--set", s)),
    ]  # fmt: skip
    return context(parser.parse_args(argv), argv)


def _run(ctx: Context) -> None:
    for make in (corpus.tasks, _prepare().tasks, features.tasks):
        for task in sorted(make(ctx), key=lambda t: t.wave):
            task.execute(ctx.config)


def test_speech_levels_and_mixtures_are_those_of_the_lists(place: Path) -> None:
    ctx = _context(place)
    _run(ctx)
    for name, part in (("train", "tr"), ("closed", "cv"), ("open", "tt")):
        assert sorted(datadir.read(ctx.data / name)["wav.scp"]) == sorted(u.split("/")[2] for u in UTTS[part])
    parts = {"closed_2": "cv", "open_2": "tt", "open_3": "tt", "closed_4": "cv", "open_5": "tt"}
    for name, part, count in ((name, part, int(name[-1])) for name, part in parts.items()):
        mixtures = FixedMixtures(ctx.dump, name)
        entries = wsj0_mix.read_published(place / "lists" / f"mix_{count}_spk_{part}.txt")
        assert [s.id for s in mixtures.specs] == [e.id for e in entries]
        for spec, entry in zip(mixtures.specs, entries, strict=True):
            ours = render_sources(spec, mixtures.sources.speech)
            originals = [sound.read(next((place / "wsj0").rglob(f"{u}.wv1")))[0] for u in entry.utts]
            theirs = wsj0_mix.mix(originals, entry.gains_db)
            assert ours.shape == theirs.sources.shape
            # The cache has rounded each utterance to 16 bits before, and so the peak that all are scaled by.
            steps = 10 ** (max(s.gain_db for s in spec.sources) / 20)
            assert np.abs(32768 * ours - theirs.sources).max() <= 1.02 * (1 + steps)


def test_fixed_mixtures_to_train_on_and_those_of_validation_are_listed_ones(place: Path) -> None:
    method = "{dc: {mixtures: fixed, num_speakers: [2, 3], objective: {name: deep_clustering}}}"
    ctx = _context(place, f"pretrain.methods={method}", "mixture.num_valid=1")
    _run(ctx)
    wanted = (("train_2", "mix_2_spk_tr", 2), ("train_3", "mix_3_spk_tr", 1), ("valid", "mix_2_spk_cv", 1))
    for name, listed, count in wanted:
        entries = wsj0_mix.read_published(place / "lists" / f"{listed}.txt")
        assert [s.id for s in FixedMixtures(ctx.dump, name).specs] == [e.id for e in entries][:count]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("open_2={speech: open, pairing: female}", "is a published list of 2 speakers each, and other mixtures"),
        ("open_4={speech: open}", "is a published list of 4 speakers each, and other mixtures"),
        ("open_2={speech: open, conditions: {rt60_s: [0.1, 0.4]}}", "and other mixtures are asked for"),
        ("closed_2={speech: open}", r"is a list of others than open speakers \(01ta0202"),
    ],
)
def test_a_set_with_the_name_of_a_list_has_to_be_that_list(place: Path, wanted: str, told: str) -> None:
    with pytest.raises(PseError, match=told):
        _run(_context(place, f"mixture.tests.{wanted}"))


def test_nothing_is_drawn_under_the_name_of_a_list_that_is_not_there(place: Path) -> None:
    ctx = _context(place)
    _run(ctx)
    (ctx.data / "lists" / "open_5.txt").unlink()
    task = next(t for t in features.tasks(ctx) if t.name == "mixtures_open_5")
    with pytest.raises(StageMissingError, match=r"lists/open_5.txt.*run ./run.sh --stage data"):
        task.execute(ctx.config)


@pytest.mark.parametrize("count", [4, 5])
def test_training_on_listed_mixtures_that_have_no_list_is_refused(place: Path, count: int) -> None:
    model = "{name: blstm_embedding, hidden_size: 4, num_layers: 1}"
    method = f"{{objective: {{name: deep_clustering}}, model: {model}, mixtures: fixed, num_speakers: [2, {count}]}}"
    with pytest.raises(PseError, match=f"no list of training mixtures of {count} speakers; leave mixtures: fixed out"):
        training.check(_context(place, f"pretrain.methods={{dc: {method}}}").config)


def test_audio_of_the_second_microphone_is_told_by_its_levels(place: Path) -> None:
    for path in (place / "wsj0").rglob("*.wv1"):
        path.write_bytes(sphere(np.round(32768 * 0.3 * sound.read(path)[0])))
    with pytest.raises(PseError, match=r"active level of .* is not the published one"):
        _run(_context(place))


def test_utterances_that_are_missing_are_told_by_their_directory(place: Path) -> None:
    next((place / "wsj0").rglob("440a0101.wv1")).unlink()
    with pytest.raises(PseError, match=r"si_et_05: 1 of 2 \(440a0101\)"):
        _run(_context(place))


def test_lists_are_downloaded_where_none_are_given(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(wsj0_lists, "fetch", lambda remote, target: asked.append(remote.urls[0]))
    found = wsj0_lists.find_or_download(None, place / "down")
    assert found == place / "down" / "wsj0_mix_lists" and len(asked) == len(wsj0_mix.SHA256)
    assert all(url.startswith("https://") and url.rpartition("/")[2] in wsj0_mix.SHA256 for url in asked)
    (place / "lists" / "mix_2_spk_tt.txt").unlink()
    with pytest.raises(PseError, match=r"lacks 1 of the published lists \(mix_2_spk_tt.txt\)"):
        wsj0_lists.find_or_download(place / "lists", place)
