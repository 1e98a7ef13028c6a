"""Score tables: what is written reads back, failures are counted, and broken files are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pse.errors import PseError
from pse.io.jsonl import read_json
from pse.scoring.metrics import Failure
from pse.scoring.tables import ScoreRow, column, compare, read_scores, summarise, write_scores, write_summary

NAMES = st.text("abcdefXYZ019._-", min_size=1, max_size=12)
VALUES = st.one_of(
    st.integers(-(10**8), 10**8).map(lambda i: i / 10**6),
    st.text(max_size=20).map(Failure),
)


@st.composite
def tables(draw: st.DrawFn) -> list[ScoreRow]:
    metrics = draw(st.lists(NAMES, max_size=3, unique=True))
    scores = st.fixed_dictionaries({name: VALUES for name in metrics})
    ids = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    snr = st.one_of(st.none(), st.integers(-900, 900).map(lambda i: i / 10))
    return [ScoreRow(i, draw(NAMES), draw(snr), draw(scores), draw(scores)) for i in ids]


@settings(max_examples=30)
@given(rows=tables())
def test_scores_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[ScoreRow]
) -> None:
    path = tmp_path_factory.mktemp("scores") / "scores.tsv"
    write_scores(path, rows)
    first = path.read_bytes()
    assert read_scores(path) == rows
    write_scores(path, read_scores(path))
    assert path.read_bytes() == first


def row(name: str, before: float | Failure, after: float | Failure) -> ScoreRow:
    return ScoreRow(name, "s1", 0.0, {"si_sdr": before}, {"si_sdr": after})


def test_the_header_is_id_speaker_snr_then_in_and_out_of_each_metric(tmp_path: Path) -> None:
    both = {"sdr": 1.5, "pesq": Failure("no utterances")}
    write_scores(tmp_path / "s.tsv", [ScoreRow("u1", "26", None, both, both)])
    assert (tmp_path / "s.tsv").read_text() == (
        "id\tspeaker\tsnr_db\tsdr_in\tsdr_out\tpesq_in\tpesq_out\n"
        "u1\t26\t-\t1.500000\t1.500000\tfail:no utterances\tfail:no utterances\n"
    )


ROWS = [
    row("u1", 1.0, 4.0),
    row("u2", 2.0, Failure("too short")),
    row("u3", 0.0, 1.0),
    row("u4", Failure("x"), 9.0),
]


def test_an_improvement_is_output_minus_input_and_fails_with_either() -> None:
    assert column(ROWS, "si_sdr_i") == {"u1": 3.0, "u2": Failure("too short"), "u3": 1.0, "u4": Failure("x")}


def test_failures_are_counted_by_reason_and_left_out_of_the_mean() -> None:
    summary = summarise(ROWS)
    improvement = summary["columns"]["si_sdr_i"]
    assert summary["n"] == 4
    assert (improvement["mean"], improvement["n"], improvement["n_failed"]) == (2.0, 2, 2)
    assert improvement["reasons"] == {"too short": 1, "x": 1}
    assert improvement["ci95"] == pytest.approx(12.706205, rel=1e-6)  # t(0.975, 1) * sqrt(2) / sqrt(2)
    assert summary["columns"]["si_sdr_out"]["mean"] == pytest.approx(14 / 3)


def test_a_column_in_which_all_failed_has_no_mean_and_no_interval(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", [row("u1", Failure("pesq is not installed"), Failure("b"))])
    found = read_json(tmp_path / "summary.json")["columns"]["si_sdr_in"]
    assert found == {
        "mean": None,
        "ci95": None,
        "n": 0,
        "n_failed": 1,
        "reasons": {"pesq is not installed": 1},
    }


def test_two_runs_are_compared_over_the_utterances_both_could_score() -> None:
    better = [row("u3", 0.0, 2.0), row("u1", 1.0, 4.5), row("u2", 2.0, 8.0)]
    difference = compare(ROWS, better, "si_sdr_i")
    assert difference is not None and (difference.n, difference.mean) == (2, 0.75)


def test_an_unknown_column_is_an_error_that_lists_the_columns() -> None:
    with pytest.raises(PseError, match="si_sdr_in, si_sdr_out, si_sdr_i"):
        column(ROWS, "pesq_out")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("u1", 0.0, 0.0)] * 2, "1 ids occur more than once: u1"),
        ([row("u\t1", 0.0, 0.0)], "control characters"),
        ([row("", 0.0, 0.0)], "empty"),
        ([row("u1", 0.0, 0.0), ScoreRow("u2", "s", 0.0)], "other metrics than the first: u2"),
        ([row("u1", float("nan"), 0.0)], "a Failure"),
    ],
)
def test_rows_that_would_not_read_back_are_refused_and_nothing_is_written(
    tmp_path: Path, rows: list[ScoreRow], message: str
) -> None:
    with pytest.raises(PseError, match=message):
        write_scores(tmp_path / "scores.tsv", rows)
    assert not list(tmp_path.iterdir())


HEADER = "id\tspeaker\tsnr_db\tsdr_in\tsdr_out\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "scores.tsv:1"),
        ("id\tspeaker\tsnr_db\tsdr_in\n", "scores.tsv:1"),
        (HEADER + "u1\ts\t0\t1.0\n", "scores.tsv:2"),
        (HEADER + "u1\ts\t0\t1.0\t2.0\nu2\ts\t0\t1.0\tnan\n", "scores.tsv:3"),
        (HEADER + "u1\ts\tloud\t1.0\t2.0\n", "scores.tsv:2"),
    ],
)
def test_a_broken_table_is_an_error_that_names_the_line(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "scores.tsv").write_text(text)
    with pytest.raises(PseError, match=where):
        read_scores(tmp_path / "scores.tsv")


def test_a_missing_table_is_an_error_that_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(PseError, match="run the stage score"):
        read_scores(tmp_path / "scores.tsv")
