"""The public lists of WSJ0-mix and the arithmetic of its builder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from pse.data import wsj0_mix
from pse.errors import PseError

LINE2 = "wsj0/si_et_05/445/445c0206.wav 0.60431 wsj0/si_dt_05/22g/22gc0105.wav -0.60431 \n"
LINE3 = "wsj0/si_tr_s/01t/01ta010b.wav 1.9805 wsj0/si_tr_s/209/209a0501.wav -1.9805 wsj0/si_tr_s/40n/40na010x.wav 0 \n"


def voice(seconds: float, seed: int) -> np.ndarray:
    """Coloured noise in words, at 16 kHz in float32."""
    rng = np.random.default_rng(seed)
    n = int(16000 * seconds)
    colour = np.convolve(rng.normal(size=n), np.hanning(9), "same")
    words = np.sin(np.arange(n) / 4000 + seed) > -0.6
    return (0.02 * (1 + seed) * colour * words).astype(np.float32)


def sources(count: int = 2) -> list[np.ndarray]:
    return [voice(1.0 + 0.3 * i, i) for i in range(count)]


def test_a_line_becomes_paths_utterances_speakers_and_gains() -> None:
    entry = wsj0_mix.parse(LINE2)[0]
    assert entry.paths == ("si_et_05/445/445c0206", "si_dt_05/22g/22gc0105")
    assert entry.utts == ("445c0206", "22gc0105") and entry.speakers == ("445", "22g")
    assert entry.gains_db == (0.60431, -0.60431)
    assert entry.sexes({"445": "F", "22g": "M"}) == "FM" and entry.sexes({"22g": "M"}) == "?M"


def test_the_name_of_a_mixture_has_each_gain_as_its_list_has_it() -> None:
    assert wsj0_mix.parse(LINE2)[0].id == "445c0206_0.60431_22gc0105_-0.60431"
    assert wsj0_mix.parse(LINE3)[0].id == "01ta010b_1.9805_209a0501_-1.9805_40na010x_0"


@given(st.floats(5e-7, 2.5))
def test_a_gain_of_five_digits_is_named_as_five_digits_are_written(gain: float) -> None:
    text = f"{gain:.5g}"
    line = LINE2.replace("-0.60431", f"-{text}").replace("0.60431", text, 1)
    assert wsj0_mix.parse(line)[0].id == f"445c0206_{text}_22gc0105_-{text}"


def test_a_gain_of_all_digits_is_named_with_eight_of_them() -> None:
    line = LINE2.replace("0.60431", "1.265109186328511")
    assert wsj0_mix.parse(line)[0].id == "445c0206_1.2651092_22gc0105_-1.2651092"


@pytest.mark.parametrize(
    "line",
    [
        "wsj0/si_et_05/445/445c0206.wav 0.6\n",
        "wsj0/si_et_05/445/445c0206.wav 0.6 wsj0/si_dt_05/22g/22gc0105.wav\n",
        "wsj0/si_et_05/445/445c0206.wav 0.6 wsj0/si_dt_05/22g/22gc0105.wav loud\n",
        "wsj0/si_et_05/445/445c0206.wav 0.6 wsj0/si_dt_05/22g/22gc0105.wav nan\n",
        "wsj0/si_et_05/445/445c0206.wv2 0.6 wsj0/si_dt_05/22g/22gc0105.wav 1\n",
        "/etc/si_et_05/445/445c0206.wav 0.6 wsj0/si_dt_05/22g/../445.wav 1\n",
        "wsj0/si_et_05/445/445c0206.wav 0.6 wsj0/si_et_05/445/445c0206.wav 1\n",
        LINE3.strip() + " " + LINE3,
        "\n",
    ],
)
def test_lines_that_are_no_mixture_are_counted_and_numbered(line: str) -> None:
    with pytest.raises(PseError, match=r"list\.txt: 1 of 2 lines are no mixture: line 2; download"):
        wsj0_mix.parse(LINE2 + line, "list.txt")


def test_repeated_mixtures_and_an_empty_list_are_refused() -> None:
    with pytest.raises(PseError, match="1 mixtures occur twice"):
        wsj0_mix.parse(LINE2 + LINE2)
    with pytest.raises(PseError, match="0 of 0 lines"):
        wsj0_mix.parse("")


def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, count: int) -> Path:
    path = tmp_path / "mix_2_spk_tt.txt"
    path.write_text(text)
    monkeypatch.setitem(wsj0_mix.SHA256, path.name, hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setitem(wsj0_mix.COUNTS, "tt", count)
    return path


def test_a_published_list_is_read_when_sum_count_and_speakers_are_right(tmp_path: Path, monkeypatch) -> None:
    path = published(tmp_path, monkeypatch, LINE2, 1)
    assert wsj0_mix.read_published(path) == wsj0_mix.parse(LINE2)
    path.write_text(LINE2.replace("0.6", "0.7"))
    with pytest.raises(PseError, match="not the published file"):
        wsj0_mix.read_published(path)


@pytest.mark.parametrize("text, count", [(LINE2, 3000), (LINE3, 1)])
def test_a_list_of_another_length_or_number_of_speakers_is_refused(tmp_path: Path, monkeypatch, text, count) -> None:
    with pytest.raises(PseError, match=f"has 1 mixtures, not {count} of 2 speakers"):
        wsj0_mix.read_published(published(tmp_path, monkeypatch, text, count))


def test_unknown_and_missing_lists_are_told(tmp_path: Path) -> None:
    with pytest.raises(PseError, match="not the name of a published list"):
        wsj0_mix.verify(tmp_path / "mix_9_spk_tr.txt")
    with pytest.raises(PseError, match="no such file; download"):
        wsj0_mix.verify(tmp_path / "mix_2_spk_tr.txt")


def test_the_published_sums_name_every_list_and_every_level() -> None:
    assert all(len(s) == 64 and int(s, 16) for s in wsj0_mix.SHA256.values())
    lists = {f"mix_{n}_spk_{p}.txt" for n in (2, 3, 4, 5) for p in wsj0_mix.COUNTS} - {"mix_5_spk_tr.txt"}
    assert set(wsj0_mix.SHA256) == lists | {f"activlev_{s}.txt" for s in ("si_tr_s", "si_dt_05", "si_et_05")}


def test_levels_are_positive_powers_by_utterance() -> None:
    assert wsj0_mix.parse_levels("20va010q 2.57e-04\n20va010d 1e-3\n") == {"20va010q": 2.57e-4, "20va010d": 1e-3}
    for text in ("", "20va010q\n", "20va010q 0\n", "20va010q -1\n", "20va010q 1\n20va010q 1\n", "a 1 2\n"):
        with pytest.raises(PseError, match="not `utterance power`"):
            wsj0_mix.parse_levels(text)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_mixtures_are_those_of_the_written_rule(count: int, rate: int, mode: str) -> None:
    signals, gains = sources(count), [1.25, -1.25, 0.0, 0.4, -2.0][:count]
    levels = [1e-3 * (i + 1) for i in range(count)]
    got = wsj0_mix.mix(signals, gains, levels, to_hz=rate, mode=mode)
    rows = zip(signals, levels, gains, strict=True)
    parts = [resample_poly(s, rate, 16000) / np.sqrt(p) * 10 ** (g / 20) for s, p, g in rows]
    length = {"min": min, "max": max}[mode](map(len, parts))
    parts = np.array([np.concatenate([p, np.zeros(length)])[:length] for p in parts])
    scale = 0.9 / max(abs(parts.sum(0)).max(), abs(parts).max())
    assert got.mix.dtype == got.sources.dtype == np.int16 and got.sources.shape == (count, length)
    assert np.abs(got.mix - 32768 * scale * parts.sum(0)).max() < 0.52
    assert np.abs(got.sources - 32768 * scale * parts).max() < 0.52
    assert got.scale == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_largest_sample_is_nine_tenths_and_the_mix_is_the_sum_of_the_sources(mode: str) -> None:
    got = wsj0_mix.mix(sources(3), [2.0, -2.0, 0.0], mode=mode)
    peak = max(np.abs(got.mix.astype(int)).max(), np.abs(got.sources.astype(int)).max())
    assert abs(peak - 0.9 * 32768) <= 0.5
    assert np.abs(got.mix - got.sources.sum(0, dtype=int)).max() <= 2


def test_gains_are_the_ratio_of_active_levels_before_anything_is_cut() -> None:
    got = wsj0_mix.mix(sources(2), [2.5, -2.5], mode="max")
    # Without the padding, whose first 200 ms the hang-over would count.
    first, second = (wsj0_mix.level(s[:n] / 32768, 8000) for s, n in zip(got.sources, (8000, 10400), strict=True))
    assert 10 * np.log10(first / second) == pytest.approx(5.0, abs=0.05)


def test_levels_are_measured_at_8_khz_whatever_the_rate_of_the_mixture() -> None:
    signals = sources(2)
    levels = [wsj0_mix.level(s, 16000) for s in signals]
    for rate in wsj0_mix.RATES_HZ:
        measured, given_levels = (wsj0_mix.mix(signals, [1.0, -1.0], v, to_hz=rate) for v in (None, levels))
        np.testing.assert_array_equal(measured.mix, given_levels.mix)


def test_the_loudness_of_a_recording_does_not_matter() -> None:
    first, second = sources(2)
    plain = wsj0_mix.mix([first, second], [1.0, -1.0])
    louder = wsj0_mix.mix([8 * first, second / 4], [1.0, -1.0])
    assert np.abs(plain.mix.astype(int) - louder.mix).max() <= 1


def test_min_is_the_beginning_of_max_up_to_the_scale() -> None:
    short, long = (wsj0_mix.mix(sources(2), [0.5, -0.5], mode=m) for m in wsj0_mix.MODES)
    assert (len(short.mix), len(long.mix)) == (8000, 10400)
    ratio = short.scale / long.scale
    assert np.abs(short.mix - ratio * long.mix[:8000]).max() <= 0.5 + 0.5 * ratio
    assert not long.sources[0, 8000:].any()


@given(st.integers(-29491, 29491))
def test_sixteen_bits_round_halves_away_from_zero(step: int) -> None:
    got = wsj0_mix.to_int16(np.array([step, step + 0.5, step - 0.5, step + 0.49]) / 32768)
    assert got.tolist() == [step, step + (step >= 0), step - (step <= 0), step]


def test_samples_beyond_full_scale_do_not_wrap_around() -> None:
    assert wsj0_mix.to_int16(np.array([1.0, -1.0, 3.0, -3.0])).tolist() == [32767, -32768, 32767, -32768]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sources": [voice(1, 0)]}, "1 sources with 2 gains"),
        ({"sources": [voice(1, 0)] * 6, "gains_db": [0] * 6}, "6 sources with 6 gains"),
        ({"sources": [voice(1, 0), np.zeros(16000)]}, "source 2: a silent signal has no active level; leave"),
        ({"sources": [voice(1, 0), np.zeros(16000)], "levels": [1, 1]}, "source 2 is silent in what is mixed"),
        ({"sources": [np.zeros(0), voice(1, 0)]}, "source 1 is empty"),
        ({"sources": [voice(1, 0), np.full(99, np.nan)]}, "source 2 is empty, not mono, or holds NaN"),
        ({"sources": [np.ones((2, 9)), voice(1, 0)]}, "source 1 is empty, not mono"),
        ({"gains_db": [1.0, float("inf")]}, "not all numbers"),
        ({"levels": [1.0, 0.0]}, "not a positive number"),
        ({"levels": [1.0]}, "not a positive number for each of 2"),
        ({"mode": "middle"}, "no WSJ0-mix is 'middle'"),
        ({"to_hz": 11025}, "at 11025 Hz; choose"),
    ],
)
def test_what_cannot_be_mixed_is_one_line(change: dict, message: str) -> None:
    arguments = {"sources": [voice(1, 0), voice(1, 1)], "gains_db": [1.0, -1.0]} | change
    with pytest.raises(PseError, match=message) as caught:
        wsj0_mix.mix(**arguments)
    assert "\n" not in str(caught.value)


def test_a_tree_has_the_published_folders() -> None:
    assert wsj0_mix.folders(3, 16000, "max", "cv") == {
        "mix": "3speakers/wav16k/max/cv/mix", "s1": "3speakers/wav16k/max/cv/s1",
        "s2": "3speakers/wav16k/max/cv/s2", "s3": "3speakers/wav16k/max/cv/s3",
    }  # fmt: skip


def test_an_entry_in_words_survives_json() -> None:
    words = wsj0_mix.describe(wsj0_mix.parse(LINE3)[0], {"01t": "F", "209": "M", "40n": "M"})
    assert json.loads(json.dumps(words)) == words
    assert words["speakers"] == ["01t", "209", "40n"] and words["sexes"] == "FMM"
    assert words["gains_db"] == [1.9805, -1.9805, 0.0]


def test_audio_of_the_other_microphone_is_known_by_its_levels() -> None:
    known = {f"u{n}": 1e-3 for n in range(20)}
    assert wsj0_mix.level_fault({u: 1.05e-3 for u in known}, known) is None
    assert wsj0_mix.level_fault({u: 1e-3 if n < 12 else 1e-5 for n, u in enumerate(known)}, known) is None
    fault = wsj0_mix.level_fault({u: 2e-3 for u in known}, known)
    assert "20 of 20 utterances" in fault and "median 3.0 dB apart, u0, u1, u10 and 17 more" in fault
