"""What a study compares is drawn: quantities of training, of scores and of clusters, by system and test set."""

from __future__ import annotations

import argparse
import typing
from pathlib import Path

import pytest

from pse.errors import PseError
from pse.io.jsonl import write_json, write_jsonl
from pse.recipe.options import Context, add_arguments, context
from pse.recipe.separation import study
from pse.recipe.separation.config import Quantity
from pse.recipe.separation.score import scores_of
from pse.scoring.tables import ScoreRow, write_scores

DIRECTORY = Path(__file__).resolve().parents[2] / "egs" / "wsj0_mix_cl_modularity"
CONFIG = """
num_seeds: 2
mixture: {tests: {open_1: {speech: open, num_speakers: 1}, open_2: {speech: open}}}
pretrain:
  methods:
    best: {baseline: {name: oracle}, tests: [open_2]}
    frames: {objective: {name: contrastive}, num_speakers: [1], model: {name: frame_encoder}}
    bins: {objective: {name: contrastive, scope: mixture}, model: {name: blstm_embedding}}
separate: {clustering: {told: {}, found: {mode: communities, count: estimated}}}
report: {study: [eer, si_sdr_i, count_accuracy, nmi]}
"""
# Condition -> SI-SDR improvement, number of speakers found and NMI of two mixtures.
FOUND = {
    "best": [(10.0, None, None), (12.0, None, None)],
    "frames.told": [(1.0, 2, 0.2), (2.0, 2, 0.4)],
    "frames.seed1.told": [(3.0, 2, 0.4), (4.0, 2, 0.6)],
    "frames.found": [(1.0, 3, 0.1), (2.0, 2, 0.1)],
    "frames.seed1.found": [(3.0, 3, 0.1), (4.0, 2, 0.1)],
    **{f"bins{seed}.{way}": [(5.0, 2, 0.5), (5.0, 2, 0.5)] for seed in ("", ".seed1") for way in ("told", "found")},
}


def made(place: Path, *settings: str) -> Context:
    path = place / "config.yaml"
    path.write_text(CONFIG)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["--recipe", "separation", "--recipe_dir", str(DIRECTORY), "--config", str(path), "--expdir", str(place)]
    argv = [*words, "--tag", "t", *(x for s in settings for x in ("--set", s))]
    return context(parser.parse_args(argv), argv)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """An experiment of two methods with two seeds and an oracle, as files of its trainings, clusters and scores."""
    ctx = made(tmp_path)
    best = {"frames": ("eer", 20.0), "frames.seed1": ("eer", 22.0), "bins": ("loss", 6.0), "bins.seed1": ("loss", 6.0)}
    for name, (headline, value) in best.items():
        (ctx.exp / "pretrain" / name).mkdir(parents=True)
        write_json(ctx.exp / "pretrain" / name / "best.json", {"headline": headline, "value": value})
    for condition, mixtures in FOUND.items():
        scores = [ScoreRow(f"m{n}", "a+b", None, {"si_sdr": 0.0}, {"si_sdr": x[0]}) for n, x in enumerate(mixtures)]
        place = ctx.exp / "enhanced_open_2" / condition
        for path in (scores_of(ctx, "open_2", condition).parent, place):
            path.mkdir(parents=True)
        write_scores(scores_of(ctx, "open_2", condition), scores)
        if condition != "best":
            told = [{"id": f"m{n}", "count": x[1], "nmi": x[2]} for n, x in enumerate(mixtures)]
            write_jsonl(place / "clusters.jsonl", told)
        if condition.endswith("found"):
            (ctx.exp / "enhanced_open_1" / condition).mkdir(parents=True)
            write_jsonl(ctx.exp / "enhanced_open_1" / condition / "clusters.jsonl", [{"id": "m0", "count": 1}])
    return ctx


def test_equal_error_rates_of_training_are_in_a_table(ctx: Context) -> None:
    (table,) = study.eer_table(ctx)
    assert table.rows == [["frames", "20.0, 22.0"]] and len(table.headings) == 2
    assert study.values(ctx, "eer") == {"validation": {"frames": [20.0, 22.0]}}


def test_values_are_of_mixtures_and_seeds_are_averaged_before(ctx: Context) -> None:
    gains = study.values(ctx, "si_sdr_i")
    assert list(gains) == ["open_2"] and list(gains["open_2"])[0] == "best"
    assert gains["open_2"]["best"] == [10.0, 12.0] and gains["open_2"]["frames.told"] == [2.0, 3.0]
    assert study.values(ctx, "nmi")["open_2"]["frames.told"] == pytest.approx([0.3, 0.5])


def test_who_is_told_the_number_has_none_right(ctx: Context) -> None:
    found = study.values(ctx, "count_accuracy")
    assert found["open_2"] == {"frames.found": [0.0, 100.0], "bins.found": [100.0, 100.0]}
    assert found["open_1"] == {"frames.found": [100.0], "bins.found": [100.0]}


def test_each_quantity_asked_for_is_a_figure_and_one_without_values_is_none(ctx: Context) -> None:
    pictures = study.pictures(ctx)
    asked = ctx.config.report.study
    assert [study.AXES[q][0] in p.alt for q, p in zip(asked, pictures, strict=True)] == [True] * 4
    for quantity, picture in zip(asked, pictures, strict=True):
        assert (ctx.exp / "images" / f"study_{quantity}.png").read_bytes() == picture.png
    assert study.values(ctx, "edge_share") == {}


def test_every_quantity_of_the_config_has_an_axis_and_no_other_is_taken(tmp_path: Path) -> None:
    assert set(study.AXES) == set(typing.get_args(Quantity))
    for wrong, told in (("[loss]", "is not a choice|must be one of"), ("[eer, eer]", "twice|more than once|study")):
        with pytest.raises(PseError, match=told):
            made(tmp_path, f"report.study={wrong}")
