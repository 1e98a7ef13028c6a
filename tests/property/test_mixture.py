"""Mixtures meet the requested ratios and are the same for the same seed, whatever the gain and length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pse.data.cache import MemoryCache
from pse.data.cache_build import gini_index
from pse.data.mixture import (
    Crop,
    MixtureSampler,
    MixtureSpec,
    Sources,
    add_noise,
    read_specs,
    render,
    write_specs,
)
from pse.dsp.snr import gain_for_snr, snr_db
from pse.errors import PseError

RATE = 16000


def noise(seed: int, num_samples: int, level_db: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(num_samples) * 0.1 * 10 ** (level_db / 20)).astype(np.float32)


def caches(seed: int = 0, speech_len: int = 5000, noise_len: int = 3000) -> Sources:
    def cache(name: str, first: int, length: int) -> MemoryCache:
        return MemoryCache({f"{name}{i}": noise(first + i, length + 10 * i) for i in range(3)}, name, RATE)

    return Sources(
        cache("s", seed, speech_len), cache("n", seed + 10, noise_len), cache("m", seed + 20, noise_len)
    )


@settings(max_examples=200)
@given(
    st.integers(1, 20000), st.floats(-20, 20), st.floats(-50, 20), st.floats(-50, 20), st.integers(0, 1000)
)
def test_the_requested_snr_is_met_within_a_hundredth_of_a_decibel(
    num_samples: int, wanted_db: float, signal_level_db: float, noise_level_db: float, seed: int
) -> None:
    signal, disturbance = noise(seed, num_samples, signal_level_db), noise(seed + 1, num_samples, noise_level_db)
    if min(np.mean(signal**2), np.mean(disturbance**2)) < 1e-9:
        return
    mix, scaled = add_noise(signal, disturbance, wanted_db)
    assert abs(snr_db(signal, scaled) - wanted_db) < 0.01
    np.testing.assert_allclose(mix, signal + scaled, atol=1e-6)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(100, 9000))
def test_a_rendered_mixture_is_the_sum_of_its_parts_at_both_ratios(seed: int, number: int, num_samples: int) -> None:
    sampler = MixtureSampler(caches(), ["s0", "s1"], num_samples, seed, "x", (-5, 5), (0, 15))
    spec, made = sampler.spec(number), sampler.render(number)
    assert -5 <= spec.snr_db <= 5 and 0 <= spec.premixture_snr_db <= 15
    assert all(len(x) == num_samples for x in (made.speech, made.premixture, made.mix))
    assert abs(snr_db(made.speech, made.premixture_noise) - spec.premixture_snr_db) < 0.01
    # The injected noise is set against the premixture, not against the clean speech.
    assert abs(snr_db(made.premixture, made.noise) - spec.snr_db) < 0.01
    np.testing.assert_allclose(made.mix, made.speech + made.premixture_noise + made.noise, atol=1e-6)


def test_number_n_of_a_stream_is_always_the_same_and_others_differ() -> None:
    def draw(seed: int, stream: str) -> MixtureSampler:
        return MixtureSampler(caches(), ["s0", "s1", "s2"], 2000, seed, stream, (-5, 5), (0, 15))

    first = [draw(0, "a").spec(n) for n in range(20)]
    assert first == [draw(0, "a").spec(n) for n in reversed(range(20))][::-1]
    assert len({s.sources[0].start_samples for s in first}) > 15
    for other in (draw(1, "a"), draw(0, "b")):
        assert [s.snr_db for s in first] != [other.spec(n).snr_db for n in range(20)]


def test_descriptions_survive_the_disk_and_render_the_same(tmp_path: Path) -> None:
    sampler = MixtureSampler(caches(), ["s0"], 2000, 0, "t", (-5, 5), (0, 15))
    specs = [sampler.spec(n) for n in range(5)]
    write_specs(tmp_path / "specs.jsonl", specs)
    again = read_specs(tmp_path / "specs.jsonl")
    assert again == specs
    for number, spec in enumerate(again):
        np.testing.assert_array_equal(render(spec, caches()).mix, sampler.render(number).mix)


def test_a_malformed_description_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "specs.jsonl"
    path.write_text('{"id": "a", "num_samples": 3, "seed": 0, "sources": [], "nose": null}\n')
    with pytest.raises(PseError, match=r"specs.jsonl:1.*did you mean 'noise'"):
        read_specs(path)
    path.write_text('{"id": NaN}\n')
    with pytest.raises(PseError, match="not valid JSON"):
        read_specs(path)


def test_short_noise_is_repeated_and_short_speech_is_padded() -> None:
    spec = MixtureSpec("a", 8000, 0, (Crop("s0"),), Crop("n0"), 0.0)
    made = render(spec, caches())
    assert not made.speech[5000:].any()
    np.testing.assert_allclose(made.noise[:3000], made.noise[3000:6000])


def test_a_silent_crop_is_drawn_again_and_only_silence_is_an_error() -> None:
    half = np.concatenate([np.zeros(9000, np.float32), noise(0, 1000)])
    sources = Sources(MemoryCache({"s": half}, "x", RATE), MemoryCache({"n": noise(1, 4000)}, "x", RATE))
    sampler = MixtureSampler(sources, ["s"], 2000, 0, "x")
    assert all(np.any(sampler.render(n).speech) for n in range(10))
    silent = Sources(MemoryCache({"s": np.zeros(9000, np.float32)}, "x", RATE), sources.noise)
    with pytest.raises(PseError, match="are silent"):
        MixtureSampler(silent, ["s"], 2000, 0, "x").spec(0)
    with pytest.raises(PseError, match="mixture a cannot be rendered"):
        render(MixtureSpec("a", 100, 0, (Crop("s"),), Crop("n"), 0.0), silent)
    with pytest.raises(ValueError, match="silent"):
        gain_for_snr(np.zeros(10), np.ones(10), 0.0)


def test_gini_index_orders_steady_before_bursts() -> None:
    steady, burst = np.ones(25600), np.zeros(25600)
    burst[:256] = 1
    assert abs(gini_index(steady)) < 1e-9
    assert gini_index(burst) == pytest.approx(0.99)
    assert gini_index(steady) < gini_index(noise(0, 25600)) < gini_index(burst)
