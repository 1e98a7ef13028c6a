"""How a package says that speakers are counted: what stage pack writes, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pse.clustering.options import Clustering, Communities
from pse.config import plain
from pse.errors import PseError
from pse.inference.package import load_network, save_package
from pse.models.base import build
from pse.recipe.separation.count import best_estimator

NET = {"name": "blstm_embedding", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}
HOW = Communities(num_nodes=300, steps=40)
READING = {"weights": [[1.0], [-1.0]], "biases": [0.0, 0.5]}
COUNTING = {"estimator": "communities", "options": plain(HOW)}


@pytest.mark.parametrize(
    ("counting", "told"),
    [
        ("communities", "must be a mapping"),
        (["communities"], "must be a mapping"),
        ({"estimator": "__import__('os').system('touch x')"}, "is not a choice"),
        ({"estimator": "communities", "options": {"method": "os.system"}}, "is not a choice"),
        ({"estimator": "communities", "options": {"steps": 10**15}}, "steps must be at most"),
        ({"estimator": "communities", "options": {"steps": "many"}}, "must be int"),
        ({"estimator": "communities", "options": {"graph": {"max_edges": 10**15}}}, "max_edges must be at most"),
        ({"estimator": "communities", "options": {"graph": []}}, "must be a mapping"),
        ({"estimator": "communities", "options": {"import": "os"}}, "unknown key 'import'"),
        ({"estimator": "communities", "options": {"min_apart": 10**400}}, "must be float"),
        ({"estimator": "communities", "calibration": READING}, "the calibration of communities is one of its options"),
        ({"estimator": "bic", "calibration": READING | {"biases": [0.0]}}, "as many biases"),
        ({"estimator": "bic", "calibration": {"weights": [[1.0], [1.0, 2.0]], "biases": [0, 0]}}, "rows of one length"),
        ({"estimator": "bic", "calibration": {"weights": [], "biases": []}}, "rows of one length"),
        ({"estimator": "bic", "calibration": READING | {"weights": [["x"], [1.0]]}}, "must be float"),
        ({"estimator": "communities", "options": {"num_nulls": 10**6}}, "num_nulls must be at most"),
        ({"estimator": "communities", "threshold_db": 3.0}, "threshold_db must be below 0"),
        ({"estimator": "silhouette", "options": {}}, "are of communities, not of silhouette"),
        ({"estimator": "silhouette", "threshold_db": -30.0}, "are of communities, not of silhouette"),
        ({"estimator": "silhouette", "soft": "yes"}, "must be bool"),
        (False, "must be a mapping"),
    ],
)
def test_a_package_that_counts_by_nonsense_is_refused_in_one_line(tmp_path: Path, counting: object, told: str) -> None:
    save_package(tmp_path / "m", build(NET, "test"), NET, "card", COUNTING)
    path, sums = tmp_path / "m" / "config.json", tmp_path / "m" / "SHA256SUMS"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"counting": counting}))
    with pytest.raises(PseError, match="does not match its sum"):
        load_network(tmp_path / "m")
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))
    with pytest.raises(PseError, match=told) as caught:
        load_network(tmp_path / "m")
    assert "\n" not in str(caught.value) and "counting" in str(caught.value)


def test_the_package_gets_what_was_right_most_often_on_validation() -> None:
    found = {
        "silhouette": {"accuracy_on_validation": 0.5, "calibration": READING},
        "mine": {"accuracy_on_validation": 0.7, "calibration": READING},
        "set": {"accuracy_on_validation": 0.7, "calibration": None},
    }
    options = Communities(min_apart=0.1)
    fixed = Clustering(
        "communities", count="estimated", soft=True, ratio=True, threshold_db=-30.0, communities=options
    )  # fmt: skip
    known = {"mine": Clustering("communities", count="estimated", communities=HOW), "set": fixed}
    best = best_estimator(found, known)
    as_in_tests = {"soft": False, "ratio": False, "threshold_db": -40.0}
    options = plain(HOW) | {"calibration": READING}
    assert best == {"estimator": "communities", "options": options, **as_in_tests}
    best = best_estimator({"set": found["set"]}, known)
    assert best["options"]["min_apart"] == 0.1
    assert (best["soft"], best["ratio"], best["threshold_db"]) == (True, True, -30.0)
    found["silhouette"]["accuracy_on_validation"] = 0.7
    assert best_estimator(found, known) == {"estimator": "silhouette", "calibration": READING}
    assert best_estimator({}, known) is None
