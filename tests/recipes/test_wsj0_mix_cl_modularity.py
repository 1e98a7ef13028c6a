"""The recipe of contrastive learning and modularity, end to end, with every kind of node."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from pse.errors import PseError
from pse.inference.package import heard_in, save_package
from pse.io import audio
from pse.io.jsonl import read_jsonl
from pse.io.tables import read_table
from pse.models.base import build
from pse.recipe.options import add_arguments, context
from pse.recipe.separation.training import check
from pse.scoring.results_md import parse
from tests.recipe_place import ROOT, Place

pytestmark = pytest.mark.slow

DIRECTORY = ROOT / "egs" / "wsj0_mix_cl_modularity"
STAGES = "corpus data features pretrain finetune enhance score report pack".split()
TINY = """
corpus:
  mini: {num_speakers: 16, speaker_s: 20, target_speaker_s: 20, noise_share: 0.03}
mixture:
  max_duration_s: 2
  valid_duration_s: 1
  num_valid: 4
  tests:
    open_1: {speech: open, num_speakers: 1, num_mixtures: 3}
    open_2: {speech: open, num_mixtures: 3}
    open_3: {speech: open, num_speakers: 3, num_mixtures: 2}
    noisy_2: {speech: open, num_mixtures: 2, conditions: {overlap: [0.3, 1], noise_snr_db: [-3, 6], rt60_s: [0.1, 0.3]}}
pretrain:
  model: {name: blstm_embedding, hidden_size: 8, num_layers: 1, embedding_size: 4}
  training: {batch_size: 8, max_examples: 32, valid_every_examples: 16}
  statistics: 16
  methods:
    ibm: {baseline: {name: oracle}}
    ibm_frames: {baseline: {name: oracle, node_bins: 0}}
    frames:
      objective: {name: contrastive, nodes_per_example: 8, min_apart_samples: 256}
      model: {name: frame_encoder, channels: 4, embedding_size: 4, projection_size: 4}
      num_speakers: [1]
      digits: true
      segment_s: 0.2
      tests: [open_1, open_2]
    bins:
      objective: {name: contrastive, scope: mixture, temperature: 1.0}
      num_speakers: [1, 2, 3]
    patches:
      objective: {name: contrastive, scope: mixture, temperature: 1.0}
      model: {name: blstm_embedding, hidden_size: 8, num_layers: 1, embedding_size: 4, node_bins: 4, node_frames: 2}
      tests: [open_2]
      clustering: [kmeans]
    slots:
      objective: {name: slots}
      model: {name: slot_encoder, embedding_size: 4, net: {name: blstm_embedding, hidden_size: 8, num_layers: 1}}
      tests: [open_2]
      clustering: [known]
    hidden:
      objective: {name: masked_reconstruction}
      model: {name: frame_encoder, channels: 4, embedding_size: 4, input: log_magnitude, head_size: 129}
      num_speakers: [1]
      segment_s: 0.4
      tests: [open_2]
      clustering: [kmeans]
    predicted:
      objective: {name: predictive_coding}
      model: {name: frame_encoder, channels: 4, embedding_size: 4, head_size: 12}
      num_speakers: [1]
      segment_s: 0.4
      tests: [open_2]
      clustering: [kmeans]
finetune:
  training: {batch_size: 4, max_examples: 8, valid_every_examples: 4}
  methods:
    frames_of_mixtures:
      start: frames
      objective: {name: contrastive, nodes_per_example: 8, min_apart_samples: 256}
      num_speakers: [1, 2]
      conditions: {noise_snr_db: [0, 10]}
      tests: [open_2]
      clustering: [kmeans]
    more_bins:
      start: bins
      objective: {name: deep_clustering}
      num_speakers: [2, 3]
      tests: [open_2]
      clustering: [kmeans]
    refined:
      start: more_bins
      objective: {name: refinement}
      model:
        name: cluster_refiner
        net: {name: blstm_embedding, hidden_size: 8, num_layers: 1, embedding_size: 4}
        num_filters: 8
        bottleneck_channels: 4
        hidden_channels: 4
        skip_channels: 4
        num_blocks: 1
        num_repeats: 1
      tests: [open_2]
      clustering: [modularity]
separate:
  clustering:
    modularity: {mode: communities, count: estimated, soft: true, communities: {num_nodes: 150, steps: 10}}
    known: {mode: communities, communities: {method: leiden, num_nodes: 150}}
    kmeans: {mode: global, restarts: 2}
count: {estimators: [silhouette], max_count: 3, num_mixtures: 2, tried_db: [0], ideal_parts: [1]}
prosody: {num_utterances: 2}
report: {num_examples: 1, study: [eer, count_accuracy]}
"""
# What makes conf/faithful.yaml small, for the embedded corpus: with so few speakers three of it are open.
SHRUNK = [
    "corpus.mini={num_speakers: 16, speaker_s: 20, target_speaker_s: 20, noise_share: 0.03}",
    "mixture.max_duration_s=2", "mixture.valid_duration_s=1", "mixture.num_valid=3", "mixture.num_train=4",
    *(f"mixture.tests.open_{n}.num_mixtures=1" for n in range(1, 6)),
    "mixture.tests.open_4.speech=closed", "mixture.tests.open_5.speech=closed", "count.max_count=3",
    "pretrain.model.hidden_size=8", "pretrain.model.num_layers=1", "pretrain.statistics=8",
    *(f"pretrain.methods.frames{which}.model.{size}=4"
      for which in ("", "_nt_xent") for size in ("channels", "embedding_size", "projection_size")),
    *(f"{stage}.training.{key}=8" for stage in ("pretrain", "finetune")
      for key in ("batch_size", "max_examples", "valid_every_examples")),
    *(f"separate.clustering.{way}.communities.{key}" for way in ("modularity", "known", "convolved")
      for key in ("num_nodes=100", "steps=5")),
    "count.num_mixtures=1", "score.metrics=[si_sdr]", "report.num_examples=0",
]  # fmt: skip
OF_BINS = {"bins.modularity", "bins.known", "bins.kmeans"}
ORACLES = {"ibm", "ibm_frames", "unprocessed mixture"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    pytest.importorskip("igraph")
    pytest.importorskip("pyroomacoustics")
    place = Place(tmp_path_factory.mktemp("modularity"), DIRECTORY, TINY)
    # In one process: starting one for each of so many small tasks would take longer than they do.
    place.first = place.run("--nj", "1")
    return place


def test_every_kind_of_node_is_trained_clustered_and_scored(made: Place) -> None:
    for stage in STAGES:
        assert f" {stage} ==" in made.first
    by_set: dict[str, set[str]] = {}
    for row in parse((made.exp / "RESULTS.md").read_text()):
        by_set.setdefault(row.test_set.split(":")[0], set()).add(row.tag)
        assert row.n_failed == 0, row.tag
    assert by_set["open_2"] == ORACLES | OF_BINS | {
        "frames.modularity", "frames.known", "frames.kmeans", "frames_of_mixtures.kmeans", "patches.kmeans",
        "slots.known", "hidden.kmeans", "predicted.kmeans", "more_bins.kmeans", "refined", "refined.modularity",
    }  # fmt: skip
    assert by_set["open_3"] == by_set["noisy_2"] == ORACLES | OF_BINS
    assert "open_1" not in by_set


def test_columns_cannot_do_what_bins_can(made: Place) -> None:
    gains = {(r.test_set.split(":")[0], r.tag): r.values["si_sdr_i"].mean for r in parse(
        (made.exp / "RESULTS.md").read_text())}  # fmt: skip
    for test in ("open_2", "open_3"):
        assert gains[test, "ibm"] > 8 > 6 > gains[test, "ibm_frames"] > 0


def test_the_number_of_signals_is_what_was_found_and_one_speaker_can_be_told(made: Place) -> None:
    for test, system in (("open_1", "bins.modularity"), ("open_2", "frames.modularity"), ("open_3", "bins.modularity")):
        place = made.exp / f"enhanced_{test}" / system
        told = [json.loads(line) for line in (place / "clusters.jsonl").read_text().splitlines()]
        signals = [read_table(p) for p in sorted(place.glob("spk*.scp"))]
        for one in told:
            found = [s[one["id"]] for s in signals if one["id"] in s]
            assert len(found) == one["count"] >= 1
            assert 0 <= one["conductance"] <= 1 and -0.5 <= one["modularity"] < 1
            assert len({len(audio.read(path)[0]) for path in found}) == 1
    counted = json.loads((made.exp / "count" / "bins.json").read_text())["modularity"]
    assert sum(map(sum, counted["told"].values())) == 6
    assert len(counted["calibration"]["biases"]) == 3 and set(counted["tried"]) == {"0"}
    assert sum(map(sum, counted["purer"]["1"]["told"].values())) == 6 and counted["purer"]["1"]["nmi"] > 0.99
    assert "Number of speakers, were the embeddings purer" in (made.exp / "RESULTS.md").read_text()


def test_the_ledger_says_what_each_step_is_told(made: Place) -> None:
    text = (made.exp / "RESULTS.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    ledger = {c[2]: c[3] for c in rows if len(c) == 7 and c[1] in STAGES}
    assert {c[2]: c[4] for c in rows if len(c) == 7}["hidden"] == "speaker identity"
    assert ledger["frames"] == "speaker identity" and ledger["hidden"] == ledger["predicted"] == "none"
    assert ledger["bins"] == ledger["frames_of_mixtures"] == ledger["refined"] == "source signals"
    assert ledger["clustering modularity"] == "none"
    assert ledger["clustering kmeans"] == "the number of speakers"
    assert ledger["calibration of that number, bins"] == "the number of speakers of validation mixtures"


def test_what_a_study_compares_is_drawn(made: Place) -> None:
    for quantity in ("eer", "count_accuracy"):
        assert (made.exp / "images" / f"study_{quantity}.png").is_file()
    text = (made.exp / "RESULTS.md").read_text()
    table = text[text.index("## Equal error rate") :].split("\n\n")[1].splitlines()[2:]
    assert [line.split("|")[1].strip() for line in table] == ["frames", "hidden", "predicted"]


def test_the_report_tells_how_steady_voices_are(made: Place) -> None:
    found = json.loads((made.exp / "prosody.json").read_text())
    assert set(found["steady"]) == {"pitch", "timbre", "energy", "rate"} and set(found["eer"]) >= {"32", "512"}
    pitch = found["steady"]["pitch"]
    assert pitch["0.01"]["icc"] > pitch["1"]["icc"] and -1 <= pitch["other recording"]["icc"] <= 1
    assert "How steady a voice is" in (made.exp / "RESULTS.md").read_text()
    assert (made.exp / "images" / "prosody.png").is_file() and (made.exp / "images" / "prosody_eer.png").is_file()


def test_a_package_is_a_method_and_a_start(made: Place, tmp_path: Path) -> None:
    package = made.exp / "package" / "bins"
    config = f"""
pretrain:
  methods:
    dc: {{package: {package}, tests: [open_2], clustering: [kmeans]}}
finetune:
  training: {{batch_size: 4, max_examples: 4, valid_every_examples: 4}}
  methods:
    more: {{start: dc, objective: {{name: deep_clustering}}, tests: [open_2], clustering: [kmeans]}}
"""
    path, exp = tmp_path / "packages.yaml", made.exp.with_name("u")
    path.write_text(TINY[: TINY.index("pretrain:")] + config + TINY[TINY.index("separate:") :])
    made.run("--nj", "1", "--config", str(path), "--tag", "u", "--stage", "pretrain")
    ours = {r.tag: r for r in parse((exp / "RESULTS.md").read_text()) if r.test_set.startswith("open_2")}
    theirs = {r.tag: r for r in parse((made.exp / "RESULTS.md").read_text()) if r.test_set.startswith("open_2")}
    assert ours["dc.kmeans"].values["si_sdr_i"] == theirs["bins.kmeans"].values["si_sdr_i"]
    assert ours["dc.kmeans"].params == theirs["bins.kmeans"].params and "more.kmeans" in ours
    assert not (exp / "package" / "dc").exists()
    train = sorted(read_table(made.root / "data" / "mini" / "train" / "spk2utt"))
    assert heard_in(package) == heard_in(exp / "package" / "more") == {"mini": train}


def test_a_package_that_has_heard_those_it_is_tested_on_is_refused(made: Place, tmp_path: Path) -> None:
    spoken = sorted(read_table(made.root / "data" / "mini" / "open" / "spk2utt"))
    net = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}
    save_package(tmp_path / "p", build(net, "test"), net, "card", heard={"mini": spoken[:1]})
    settings = f"pretrain.methods={{dc: {{package: {tmp_path / 'p'}}}}}", "finetune.methods={}"
    words = ["--tag", "leak", *(x for s in settings for x in ("--set", s))]
    told = made.run("--nj", "1", "--stage", "enhance", *words, expect=1)
    assert f"has heard 1 of {len(spoken)} open speakers in training: {spoken[0]}" in told and "data.split" in told
    assert not (made.exp.with_name("leak") / "config.yaml").exists()


def test_the_papers_reading_runs_to_its_package_when_it_is_small(made: Place) -> None:
    words = [x for setting in SHRUNK for x in ("--set", setting)]
    roots = [x for d in ("data", "dump") for x in (f"--{d}dir", str(made.root / f"faithful_{d}"))]
    config = str(DIRECTORY / "conf" / "faithful.yaml")
    made.run("--nj", "1", "--config", config, "--tag", "faithful", "--corpus", "mini", *roots, *words)
    exp = made.exp.with_name("faithful")
    ceilings, ways = {"ibm", "ibm_frames", "unprocessed mixture"}, ("modularity", "known", "convolved")
    found = {f"{m}.{w}" for m in ("frames", "frames_of_mixtures") for w in ways}
    found |= {"frames_nt_xent.modularity", "bins.modularity", "bins.known"}
    by_set: dict[str, set[str]] = {}
    for row in parse((exp / "RESULTS.md").read_text()):
        by_set.setdefault(row.test_set.split(":")[0], set()).add(row.tag)
    assert by_set == {f"open_{n}": ceilings | found for n in (2, 3, 4, 5)}
    (told,) = read_jsonl(exp / "enhanced_open_5" / "bins.modularity" / "clusters.jsonl")
    assert 0 <= told["edge_share"] <= 1 and told["count"] >= 1


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("pretrain.methods.bins.objective.scope=all", "scope"),
        ("pretrain.methods.frames.objective.scope=mixture", "nobody else speaks"),
        ("pretrain.methods.bins.digits=true", "digits are too short to mix"),
        ("pretrain.methods.hidden.model.head_size=12", "set head_size: 129"),
        ("pretrain.methods.predicted.num_speakers=[2]", "learns from single speakers"),
        ("pretrain.methods.ibm_frames.baseline.mask=psm", "psm is of bins"),
        ("pretrain.methods.bins.package=nowhere", "an objective, a baseline or a package"),
        ("separate.clustering.silhouette={}", "silhouette has the name of an estimator of count"),
        ("separate.clustering.kmeans.count=estimated", "needs mode: communities"),
        ("separate.clustering.modularity.communities.graph.threshold=1.5", "threshold must be from 0"),
        ("mixture.tests.noisy_2.conditions.overlap=[0.5, 2]", "overlap must be two numbers"),
    ],
)
def test_a_config_that_cannot_run_is_refused_before_anything_runs(tmp_path: Path, setting: str, told: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    argv = ["--recipe", "separation", "--recipe_dir", str(DIRECTORY), "--config", str(path), "--set", setting]
    with pytest.raises(PseError, match=told):
        check(context(parser.parse_args(argv), argv).config)
