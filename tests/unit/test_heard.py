"""Whom a model has heard in training: its package tells it, and nobody is tested on them."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pytest

from pse.errors import PseError
from pse.inference.package import heard_in, load_network, packaged_config, save_package
from pse.models.base import build
from pse.recipe.options import Context, add_arguments, context
from pse.recipe.separation.cluster_tables import ledger
from pse.recipe.separation.heard import check, heard_by
from pse.recipe.separation.layout import System

NET = {"name": "blstm_embedding", "hidden_size": 4, "num_layers": 1, "embedding_size": 4}
DIRECTORY = Path(__file__).resolve().parents[2] / "egs" / "wsj0_mix_cl_modularity"
CONFIG = """
corpus: {{name: librispeech}}
mixture: {{tests: {{{test}: {{speech: {test}}}}}}}
pretrain:
  model: {{name: blstm_embedding, hidden_size: 4, num_layers: 1, embedding_size: 4}}
  methods:
    given: {{package: {package}}}
    ours: {{objective: {{name: deep_clustering}}}}
    few: {{objective: {{name: deep_clustering}}, speakers: [s1]}}
finetune:
  methods:
    more: {{start: given, objective: {{name: deep_clustering}}}}
    long: {{start: few, objective: {{name: deep_clustering}}}}
separate: {{clustering: {{kmeans: {{}}}}}}
"""


def packed(place: Path, heard: dict[str, list[str]] | None) -> Path:
    save_package(place / "package", build(NET, "test"), NET, "card", heard=heard)
    return place / "package"


def made(place: Path, heard: dict[str, list[str]] | None, test: str = "open") -> Context:
    """An experiment with such a package, on data whose speakers are s1 and s2, v1, and o1 and o2."""
    for part, speakers in (("train", ["s1", "s2"]), ("valid", ["v1"]), ("open", ["o1", "o2"])):
        (place / "data" / "librispeech" / part).mkdir(parents=True)
        table = "".join(f"{s} {s}-1 {s}-2\n" for s in speakers)
        (place / "data" / "librispeech" / part / "spk2utt").write_text(table)
    path = place / "config.yaml"
    path.write_text(CONFIG.format(package=packed(place, heard), test=test))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["--recipe", "separation", "--recipe_dir", str(DIRECTORY), "--config", str(path)]
    argv = [*words, *(x for d in ("data", "dump", "exp") for x in (f"--{d}dir", str(place / d)))]
    return context(parser.parse_args(argv), argv)


def test_a_package_tells_whom_it_has_heard_and_an_old_one_does_not(tmp_path: Path) -> None:
    told = {"librispeech": ["19", "26"]}
    for heard in (told, None, {}):
        package = packed(tmp_path, heard)
        assert heard_in(package) == (heard or None) and packaged_config(package) == NET
        assert load_network(package).embedding_size == 4


@pytest.mark.parametrize("heard", [["19"], "19", False, 7, {"a": "19"}, {"a": ["19"], "b": [26]}, {"a": [[]]}])
def test_a_package_that_tells_it_wrongly_is_refused_in_one_line(tmp_path: Path, heard: object) -> None:
    package = packed(tmp_path, None)
    path, sums = package / "config.json", package / "SHA256SUMS"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"heard": heard}))
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))
    for use in (load_network, heard_in):
        with pytest.raises(PseError, match="heard: must be lists of speakers by corpus") as caught:
            use(package)
        assert "\n" not in str(caught.value)


def test_who_was_heard_is_the_training_speakers_and_those_of_the_start(tmp_path: Path) -> None:
    ctx = made(tmp_path, {"librispeech": ["s2", "s9"], "wsj0": ["011"]})
    assert heard_by(ctx, System("ours")) == {"librispeech": ["s1", "s2"]}
    assert heard_by(ctx, System("long", seed=1)) == {"librispeech": ["s1", "s2"]}
    assert heard_by(ctx, System("few")) == {"librispeech": ["s1"]}
    assert heard_by(ctx, System("more")) == {"librispeech": ["s1", "s2", "s9"], "wsj0": ["011"]}


def test_what_starts_from_a_package_that_tells_nothing_tells_nothing_either(tmp_path: Path) -> None:
    ctx = made(tmp_path, None)
    assert heard_by(ctx, System("more")) is None
    check(ctx)


@pytest.mark.parametrize(
    ("speaker", "told"), [("o2", "has heard 1 of 2 open speakers in training: o2"), ("v1", "1 of 1 valid speakers")]
)
def test_a_package_that_has_heard_test_or_validation_speakers_is_refused(
    tmp_path: Path, speaker: str, told: str
) -> None:
    ctx = made(tmp_path, {"librispeech": ["s1", speaker]})
    with pytest.raises(PseError, match=told) as caught:
        check(ctx)
    text = str(caught.value)
    assert "\n" not in text and "--set data.split=split.tsv" in text and "method given" in text


def test_speakers_of_another_corpus_and_of_sets_without_a_use_are_no_reason(tmp_path: Path) -> None:
    check(made(tmp_path / "a", {"librispeech": ["s1", "s2"], "wsj0": ["o1", "v1"]}))
    # A test of closed speakers alone: who is open does not matter.
    check(made(tmp_path / "b", {"librispeech": ["o1"]}, test="closed"))


@pytest.mark.parametrize(
    ("heard", "told"),
    [(None, "heard: not told by the package"), ({"librispeech": ["s1", "s9"]}, "heard: 2 speakers of librispeech")],
)
def test_the_ledger_tells_it(tmp_path: Path, heard: dict[str, list[str]] | None, told: str) -> None:
    lines = {line[1]: line[2] for line in ledger(made(tmp_path, heard))[0].rows}
    assert lines["given"] == f"see its card; {told}"
