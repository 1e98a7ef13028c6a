"""Laws of what `pse info` says of a model."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from pse.config import read_yaml
from pse.models.base import Model, Output, build
from pse.models.info import describe, format_table

CONF = Path(__file__).parents[2] / "egs" / "librispeech_pse" / "conf" / "models"
# GMAC per second of audio, counted layer by layer from the papers' sizes; decimals as published.
GMACS = {
    "gru_32": 0.005, "gru_64": 0.011, "gru_128": 0.026, "gru_256": 0.070, "gru_512": 0.213,
    "snr_predictor_small": 0.049, "snr_predictor_large": 1.082,
    "bgru_32": 0.010, "bgru_64": 0.023, "bgru_128": 0.057, "bgru_256": 0.164,
}  # fmt: skip
TASNET_GMACS = {"tiny": 0.304, "small": 0.472, "medium": 0.895, "large": 2.086}


def load(name: str) -> Model:
    return build(read_yaml(CONF / f"{name}.yaml"), name)


@cache
def facts_of(name: str) -> dict[str, Any]:
    return describe(load(name))


@pytest.mark.parametrize(("name", "expected"), GMACS.items())
def test_recurrent_networks_cost_what_their_papers_imply(name: str, expected: float) -> None:
    assert round(facts_of(name)["network_macs_per_s"] / 1e9, 3) == expected


@pytest.mark.parametrize(("size", "expected"), TASNET_GMACS.items())
def test_conv_tasnet_costs_its_layers_less_what_is_folded_and_unused(size: str, expected: float) -> None:
    model = load(f"conv_tasnet_{size}")
    (channels, filters), length = model.bottleneck.weight.shape, 16
    hidden = model.blocks[0].residual.in_features
    folded = filters * channels - (length * channels + length * length + length)
    layer_by_layer = facts_of(f"conv_tasnet_{size}")["network_macs_per_s"] + 2000 * (
        folded + hidden * channels
    )
    assert layer_by_layer / 1e9 == pytest.approx(expected, abs=5e-4)


class Recurrent(Model):
    """Two LSTM layers on samples, in both directions."""

    causal = False

    def __init__(self) -> None:
        super().__init__(100, "none")
        self.net = nn.LSTM(1, 6, 2, batch_first=True, bidirectional=True)

    def receptive_field_samples(self) -> None:
        return None

    def algorithmic_latency_samples(self) -> None:
        return None

    def process(self, mix: Tensor) -> Output:
        return Output(wavs=self.net(mix[..., None])[0].mean(2)[:, None])


def test_lstm_layers_cost_their_gates() -> None:
    a_sample = 2 * 4 * 6 * (1 + 6) + 2 * 4 * 6 * (12 + 6)
    assert describe(Recurrent())["network_macs_per_s"] == 100 * a_sample


def test_transforms_are_counted_apart_and_by_direction() -> None:
    per_frame, frames_per_s = 1.25 * 1024 * math.log2(1024), 16000 / 256
    one_way = per_frame * frames_per_s
    assert facts_of("snr_predictor_small")["stft_macs_per_s"] == pytest.approx(one_way, rel=1e-3)
    assert facts_of("gru_32")["stft_macs_per_s"] == pytest.approx(2 * one_way, rel=1e-3)
    assert facts_of("conv_tasnet_tiny")["stft_macs_per_s"] == 0


def test_context_is_given_in_samples_and_milliseconds() -> None:
    facts = facts_of("conv_tasnet_tiny_causal")
    assert (facts["receptive_field_samples"], facts["receptive_field_ms"]) == (4088, 255.5)
    assert (facts["latency_samples"], facts["latency_ms"], facts["causal"]) == (16, 1.0, True)
    facts = facts_of("bgru_32")
    assert facts["receptive_field_ms"] is None and facts["latency_ms"] is None and not facts["causal"]


def test_the_table_and_the_json_tell_every_fact() -> None:
    facts = facts_of("conv_tasnet_tiny_causal")
    assert json.loads(json.dumps(facts)) == facts
    table = format_table(facts)
    for shown in ("158,037", "264 not trained", "0.2958 GMAC", "4088 samples (255.5 ms)"):
        assert shown in table
    assert "16 samples (1.0 ms)" in table and "yes" in table
    assert "transforms" not in table
    assert "the whole signal" in format_table(facts_of("gru_32"))


def test_describing_leaves_the_model_as_it_was() -> None:
    model = load("gru_32").train()
    before = [p.data_ptr() for p in model.parameters()]
    describe(model)
    assert model.training and [p.data_ptr() for p in model.parameters()] == before
