"""Packages on the hub: the package's files at one commit and nothing else; faults in one line."""

from __future__ import annotations

import inspect
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pse
from pse import cli
from pse.errors import EnvironmentFault, PseError
from pse.inference.hub import fetched
from tests.packages import GRU, pack

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ADDRESS = f"hf:someone/a.model@{COMMIT}"


class Hub:
    """In the place of huggingface_hub: has one repository, a package with other files beside it."""

    def __init__(self, repository: Path) -> None:
        self.repository, self.asked, self.fault = repository, [], None

    def snapshot_download(self, **asked: Any) -> str:
        self.asked.append(asked)
        if self.fault is not None:
            raise self.fault
        target = Path(asked["local_dir"])
        for path in self.repository.iterdir():
            if path.name in asked["allow_patterns"]:
                shutil.copy(path, target)
        (target / ".cache" / "huggingface").mkdir(parents=True)
        return str(target)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(pack(tmp_path / "repository", GRU))
    for name in ("README.md", "model.pkl", "evil.py"):
        (made.repository / name).write_text("no file of a package")
    module = ModuleType("huggingface_hub")
    module.snapshot_download = made.snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def test_exactly_the_files_of_the_package_at_the_commit_are_fetched_once(hub: Hub) -> None:
    model = pse.load_model(ADDRESS)
    (asked,) = hub.asked
    assert (asked["repo_id"], asked["revision"]) == ("someone/a.model", COMMIT) and model.name == ADDRESS
    place = fetched(ADDRESS)
    assert sorted(p.name for p in place.iterdir()) == ["SHA256SUMS", "card.md", "config.json", "model.safetensors"]
    expected = pse.load_model(hub.repository).enhance(np.ones(99), sample_rate=16000)
    assert np.array_equal(pse.enhance(np.ones(99), sample_rate=16000, model=ADDRESS), expected)
    assert len(hub.asked) == 1


def test_the_sums_of_what_was_fetched_are_checked(hub: Hub) -> None:
    (hub.repository / "card.md").write_text("another card")
    with pytest.raises(PseError, match=r"card\.md: does not match its sum"):
        pse.load_model(ADDRESS)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("hf:a/b@main", "'main' is no commit"), ("hf:a/b", "'no commit' is no commit"), ("hf:a/b@", "is no commit"),
        (f"hf:a/b@{COMMIT[:7]}", "name the 40 hex digits"), (f"hf:a/b@{COMMIT.upper()}", "is no commit"),
        (f"hf:a@{COMMIT}", "write hf:owner/repo@commit"), (f"hf:a/../b@{COMMIT}", "write hf:owner"),
        (f"hf:../b@{COMMIT}", "write hf:owner"), (f"hf:a/b@{COMMIT}/..", "is no commit"), ("hf:", "write hf:owner"),
    ],
)  # fmt: skip
def test_what_could_change_or_lead_elsewhere_is_refused(
    address: str, told: str, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PseError, match=told) as caught:
        pse.load_model(address)
    assert "\n" not in str(caught.value)
    assert cli.main(["enhance", "x.wav", "-o", "nowhere", "--model", address]) == 1
    assert told in capsys.readouterr().err and hub.asked == []


def test_a_failed_download_is_one_line_and_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.fault = RuntimeError("404 Client Error\nlong story")
    with pytest.raises(EnvironmentFault, match=r"cannot be downloaded \(404 Client Error\)") as caught:
        pse.load_model(ADDRESS)
    assert "\n" not in str(caught.value) and not list((tmp_path / "cache").rglob("*.json"))
    hub.fault = None
    assert pse.load_model(ADDRESS).sample_rate == 16000


def test_without_the_package_the_remedy_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentFault, match="pip install huggingface_hub") as caught:
        pse.load_model(ADDRESS)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_the_real_package_takes_what_is_asked_of_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pse.load_model(ADDRESS)
    monkeypatch.undo()
    real = pytest.importorskip("huggingface_hub")
    assert set(hub.asked[0]) <= set(inspect.signature(real.snapshot_download).parameters)
