"""Laws of the running level."""

from __future__ import annotations

import math

import pytest
import torch

from pse.dsp.level import FLOOR, RunningLevel


@pytest.mark.parametrize("sizes", [[600], [1] * 7 + [593], [255, 1, 300, 44]])
def test_it_is_the_weighted_mean_power_of_the_frames_so_far(sizes: list[int]) -> None:
    power = torch.rand(2, 600, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    level = RunningLevel(30)
    got = torch.cat([level.include(part) for part in power.split(sizes, 1)], 1)
    for frame in (0, 1, 254, 255, 256, 599):
        weights = torch.exp(-torch.arange(frame, -1, -1, dtype=torch.float64) / 30)
        expected = ((power[:, : frame + 1] * weights).sum(1) / weights.sum()).sqrt()
        assert torch.allclose(got[:, frame], expected, rtol=1e-12)


def test_a_steady_signal_has_its_own_level_from_the_first_frame_on() -> None:
    assert torch.allclose(RunningLevel(60).include(torch.full((1, 2000), 0.04)), torch.tensor(0.2))


def test_silence_has_the_lowest_level_and_is_forgotten() -> None:
    level = RunningLevel(10)
    assert (level.include(torch.zeros(1, 300)) == FLOOR).all()
    risen = level.include(torch.ones(1, 100))[0]
    assert risen[0].item() == pytest.approx(math.sqrt(1 - math.exp(-0.1)), rel=1e-3)
    assert risen[-1].item() == pytest.approx(1.0, abs=1e-3)
