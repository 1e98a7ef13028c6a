"""A paper's claim is judged by paired differences over test utterances."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from pse.recipe.personal import results
from pse.recipe.personal.config import ClaimConfig
from pse.scoring.metrics import Failure
from pse.scoring.tables import ScoreRow

UTTERANCES, MIXTURES = 5, 4
IDS = [f"m{number}" for number in range(UTTERANCES * MIXTURES)]
CONDITIONS = ("cm.3s", "generalist.3s", "cm.60s", "generalist.60s")


@pytest.fixture
def gains(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """SI-SDRi [condition, utterance, mixture] of an experiment that has no files."""
    found = np.random.default_rng(0).normal([[[4.0]], [[3.0]], [[4.5]], [[4.3]]], 0.3, (4, UTTERANCES, MIXTURES))
    rows = {
        c: [ScoreRow(i, "19", 0.0, {"si_sdr": 1.0}, {"si_sdr": 1.0 + g}) for i, g in zip(IDS, values.flat, strict=True)]
        for c, values in zip(CONDITIONS, found, strict=True)
    }
    specs = [
        SimpleNamespace(id=i, sources=[SimpleNamespace(utt=f"u{n // MIXTURES}")]) for n, i in enumerate(IDS)
    ]  # fmt: skip
    monkeypatch.setattr(results, "scores_of", lambda ctx, condition: rows[condition])
    monkeypatch.setattr(results, "conditions", lambda ctx: rows)
    monkeypatch.setattr(results, "read_specs", lambda path: specs)
    return found


def judge(higher: str, lower: str) -> results.Claim:
    claims = [ClaimConfig("c", "s", higher, lower)]
    return results.claims(SimpleNamespace(dump=Path("dump")), SimpleNamespace(report=SimpleNamespace(claims=claims)))[0]


def evidence(values: np.ndarray) -> str:
    """Of differences [utterance, mixture]: mean and interval over utterances, by SciPy."""
    mean = values.mean(1)
    low, high = stats.t.interval(0.95, len(mean) - 1, mean.mean(), stats.sem(mean))
    return f": {mean.mean():+.2f} ± {(high - low) / 2:.2f} dB SI-SDRi (paired, over {UTTERANCES} test utterances"


def test_a_condition_is_compared_with_another(gains: np.ndarray) -> None:
    found = judge("cm.3s", "generalist.3s")
    assert found.evidence.startswith("cm.3s minus generalist.3s" + evidence(gains[0] - gains[1]))
    assert found.verdict == "holds" and judge("generalist.3s", "cm.3s").verdict == "does not hold"


def test_a_gain_is_compared_with_another(gains: np.ndarray) -> None:
    found = judge("cm.3s minus generalist.3s", "cm.60s minus generalist.60s")
    told = "(cm.3s minus generalist.3s) minus (cm.60s minus generalist.60s)"
    assert found.evidence.startswith(told + evidence(gains[0] - gains[1] - gains[2] + gains[3]))
    assert found.verdict == "holds"


def test_a_mixture_that_one_condition_failed_on_is_left_out(gains: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results.scores_of

    def one_failed(ctx: object, condition: str) -> list[ScoreRow]:
        failed = ScoreRow(IDS[0], "19", 0.0, {"si_sdr": 1.0}, {"si_sdr": Failure("silent")})
        rows = before(ctx, condition)
        return [failed, *rows[1:]] if condition == "generalist.60s" else rows

    monkeypatch.setattr(results, "scores_of", one_failed)
    difference = gains[0] - gains[1] - gains[2] + gains[3]
    difference[0, 0] = difference[0, 1:].mean()
    found = judge("cm.3s minus generalist.3s", "cm.60s minus generalist.60s")
    assert evidence(difference) in found.evidence


def test_a_condition_that_was_not_run_is_named(gains: np.ndarray) -> None:
    found = judge("cm.3s minus nobody", "cm.60s")
    assert (found.evidence, found.verdict) == ("nobody was not run", "not tested")
