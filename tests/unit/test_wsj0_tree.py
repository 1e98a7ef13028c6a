"""WSJ0-mix as files: every sample as the mixer makes it, and only what is missing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.corpora import wsj0
from pse.corpora.base import Recording
from pse.data import wsj0_mix, wsj0_tree
from pse.data.wsj0_tree import Plan, write_tree
from pse.errors import PseError
from pse.io import sound
from tests.sphere_files import sphere

UTTS = ("01ta0101", "02ca0102", "40ba0103")


@pytest.fixture
def recordings(tmp_path: Path) -> dict[str, Recording]:
    rng = np.random.default_rng(0)
    for number, utt in enumerate(UTTS):
        size = 16000 + 801 * number
        pcm = 3000 * rng.standard_normal(size) * np.repeat(rng.random(200), 90)[:size]
        path = tmp_path / "wsj0" / "si_tr_s" / utt[:3] / f"{utt}.wv1"
        path.parent.mkdir(parents=True)
        path.write_bytes(sphere(pcm))
    return {r.id: r for r in wsj0.scan(tmp_path / "wsj0", ("si_tr_s",))}


def _entries() -> list[wsj0_mix.Entry]:
    path = {u: f"si_tr_s/{u[:3]}/{u}" for u in UTTS}
    pairs = [(UTTS[0], UTTS[1]), (UTTS[1], UTTS[2]), (UTTS[2], UTTS[0])]
    return [wsj0_mix.Entry((path[a], path[b]), (g, -g)) for (a, b), g in zip(pairs, (0.5, 1.25, 2.4), strict=True)]


@pytest.mark.parametrize(("rate", "mode"), [(8000, "min"), (16000, "max")])
def test_files_hold_what_the_mixer_makes(tmp_path: Path, recordings, rate: int, mode: str) -> None:
    plan, lines = Plan(2, "tr", rate, mode), []
    assert write_tree(tmp_path / "out", plan, _entries(), recordings, {}, 1, lines.append) == 3
    for entry in _entries():
        signals = [sound.read(recordings[u].path)[0] for u in entry.utts]
        expected = wsj0_mix.mix(signals, entry.gains_db, to_hz=rate, mode=mode)
        mixture, *sources = (soundfile.read(p, dtype="int16") for p in plan.paths(tmp_path / "out", entry))
        assert mixture[1] == rate and np.array_equal(mixture[0], expected.mix)
        assert all(np.array_equal(s[0], e) for s, e in zip(sources, expected.sources, strict=True))
    assert "3 of 3 mixtures to write" in lines[0] and "3/3" in lines[-1]


def test_published_levels_are_taken_where_there_are_some(tmp_path: Path, recordings) -> None:
    plan, entry = Plan(2, "tr", 8000, "min"), _entries()[0]
    write_tree(tmp_path / "out", plan, [entry], recordings, dict.fromkeys(UTTS, 1e-3), 1, lambda line: None)
    signals = [sound.read(recordings[u].path)[0] for u in entry.utts]
    expected = wsj0_mix.mix(signals, entry.gains_db, [1e-3, 1e-3])
    assert np.array_equal(soundfile.read(plan.paths(tmp_path / "out", entry)[0], dtype="int16")[0], expected.mix)


def test_only_what_is_missing_or_cut_short_is_written_by_the_next_run(tmp_path: Path, recordings) -> None:
    plan, entries, out = Plan(2, "tr", 8000, "min"), _entries(), tmp_path / "out"
    write_tree(out, plan, entries, recordings, {}, 1, lambda line: None)
    first, second, third = (plan.paths(out, e)[0] for e in entries)
    whole, kept = first.read_bytes(), third.stat().st_mtime_ns
    first.write_bytes(whole[:-100])
    second.unlink()
    assert write_tree(out, plan, entries, recordings, {}, 2, lambda line: None) == 2
    assert first.read_bytes() == whole and second.is_file() and third.stat().st_mtime_ns == kept
    assert write_tree(out, plan, entries, recordings, {}, 1, lambda line: None) == 0


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path: Path, recordings, monkeypatch) -> None:
    def need_disk(path: Path, num_bytes: int, what: str) -> None:
        raise PseError(f"{what} needs {num_bytes} bytes", path)

    monkeypatch.setattr(wsj0_tree, "need_disk", need_disk)
    with pytest.raises(PseError, match="3 mixtures .* needs 1"):
        write_tree(tmp_path / "out", Plan(2, "tr", 8000, "min"), _entries(), recordings, {}, 1, lambda line: None)
    assert not (tmp_path / "out").exists()


def test_audio_of_the_other_microphone_is_refused_by_its_levels(recordings) -> None:
    levels = {u: wsj0_mix.level(*sound.read(r.path)) for u, r in recordings.items()}
    wsj0_tree.check_levels(list(recordings.values()), levels, Path("wsj0"))
    with pytest.raises(PseError, match="the active level of 3 of 3 utterances is not the published one"):
        wsj0_tree.check_levels(list(recordings.values()), {u: 2 * v for u, v in levels.items()}, Path("wsj0"))


def test_a_list_without_a_checksum_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    from pse.data.wsj0_lists import NUM_BYTES, find_or_download

    assert set(NUM_BYTES) == set(wsj0_mix.SHA256)
    with pytest.raises(PseError, match="no checksum of mix_5_spk_tr.txt is known; ask for other parts"):
        find_or_download(None, tmp_path, ["mix_5_spk_tr.txt"])
    assert not list(tmp_path.iterdir())
