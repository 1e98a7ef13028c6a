"""What a stage made and something else damaged is one line with the remedy, never a traceback."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pse.data.cache import REMAKE, AudioCache
from pse.data.fixed import FixedMixtures, write_fixed
from pse.data.mixture import Crop, MixtureSpec
from pse.errors import PseError
from pse.io import datadir
from pse.io.atomic import writing_dir

RATE = 8000
PREPARE = Path(__file__).resolve().parents[2] / "egs" / "librispeech_pse" / "local" / "prepare.py"


def make_cache(directory: Path) -> Path:
    """An audio cache of two utterances, as stage features writes it."""
    ids = ("a-1", "b-1")
    directory.mkdir(parents=True)
    np.save(directory / "audio.npy", np.arange(200, dtype="<i2"))
    (directory / "cache.json").write_text(json.dumps({"sample_rate": RATE, "sha256": "0"}))
    tables = {"wav.scp": {u: f"/x/{u}.wav" for u in ids}, "utt2spk": {u: u[0] for u in ids}}
    datadir.write_into(directory, tables | {"utt2num_samples": dict.fromkeys(ids, "100")})
    return directory


def make_set(dump: Path) -> Path:
    """A fixed set of one mixture on two caches."""
    for name in ("people", "noises"):
        make_cache(dump / name)
    spec = MixtureSpec("m-1", 50, 0, (Crop("a-1", 3),), Crop("b-1"), 5.0)
    write_fixed(dump / "mixtures" / "test", [spec], {"speech": "people", "noise": "noises"})
    return dump / "mixtures" / "test"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def array(value: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, value)


def refused(load: Callable[[], Any], name: str) -> None:
    with pytest.raises(PseError) as caught:
        load()
    told = str(caught.value)
    assert REMAKE in told and name in told and "\n" not in told and caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("cache.json", text("")),
        ("cache.json", text("[16000]")),
        ("cache.json", text("{}")),
        ("cache.json", text('{"sample_rate": "fast"}')),
        ("cache.json", text('{"sample_rate": true}')),
        ("cache.json", Path.unlink),
        ("audio.npy", text("")),
        ("audio.npy", text("junk that is no array")),
        ("audio.npy", text("\x93NUMPY")),
        ("audio.npy", cut),
        ("audio.npy", array(np.zeros(200, np.float32))),
        ("audio.npy", array(np.zeros((2, 100), np.int16))),
        ("audio.npy", array(np.array(3, np.int16))),
        ("audio.npy", lambda path: path.write_bytes(path.read_bytes()[:40])),
        ("audio.npy", lambda path: path.write_bytes(path.read_bytes().replace(b"'descr'", b"'desc'("))),
        ("utt2num_samples", Path.unlink),
        ("utt2num_samples", text("")),
        ("utt2num_samples", text("a-1 100\nb-1 many\n")),
        ("utt2num_samples", text("a-1 300\nb-1 -100\n")),
        ("utt2num_samples", text("a-1 200\n")),
        ("utt2spk", Path.unlink),
        ("utt2spk", text("a-1 a\n")),
        ("wav.scp", text("a-1\0\n")),
    ],
)
def test_a_damaged_audio_cache_is_one_line_with_the_remedy(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    directory = make_cache(tmp_path / "dump")
    assert AudioCache(directory).sample_rate == RATE
    harm(directory / name)
    refused(lambda: AudioCache(directory), name)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("sources.json", text("")),
        ("sources.json", text("[]")),
        ("sources.json", text("{}")),
        ("sources.json", text('{"speech": 3}')),
        ("sources.json", text('{"speech": "people", "noise": ["noises"]}')),
        ("sources.json", text('{"speech": "people", "music": "noises"}')),
        ("sources.json", Path.unlink),
        ("specs.jsonl", text("")),
        ("specs.jsonl", cut),
        ("specs.jsonl", text("[1, 2]\n")),
        ("specs.jsonl", text('{"id": "m"}\n')),
        ("specs.jsonl", text('{"id": "m", "num_samples": 5, "seed": 0, "sources": []}\n')),
        ("specs.jsonl", text('{"id": "m", "num_samples": 5, "seed": 0, "sources": [{"utt": "z"}]}\n')),
        (
            "specs.jsonl",
            text('{"id": "m", "num_samples": 5, "seed": 0, "sources": [{"utt": "a-1"}], "noise": {"utt": "a-1"}}\n'),
        ),
    ],
)
def test_a_damaged_set_of_mixtures_is_one_line_with_the_remedy(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    directory = make_set(tmp_path)
    assert len(FixedMixtures(tmp_path, "test").specs) == 1
    harm(directory / name)
    refused(lambda: FixedMixtures(tmp_path, "test"), name)


def prepare() -> ModuleType:
    """Stage data, a program of the recipe's own."""
    spec = importlib.util.spec_from_file_location("prepare", PREPARE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", "{}", '{"librispeech": "/a"}', '{"librispeech": "/a", "noise": 3}', '{"noise": "/a"}', '["noise"]'],
)
def test_a_damaged_list_of_corpora_is_one_line_with_the_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "corpus.json"
    path.write_text('{"librispeech": "/a", "noise": "/b"}')
    assert prepare().read_corpora(path)["noise"] == "/b"
    path.write_text(content)
    with pytest.raises(PseError, match="--stage corpus --stop_stage corpus --force") as caught:
        prepare().read_corpora(path)
    assert "\n" not in str(caught.value) and "corpus.json" in str(caught.value)


def test_an_edited_noise_manifest_is_noticed(tmp_path: Path) -> None:
    manifest = tmp_path / "MANIFEST.tsv"
    config = SimpleNamespace(corpus=SimpleNamespace(name="own", noise_manifest=manifest))
    ctx = SimpleNamespace(config=config, data=tmp_path)
    speech, noise = prepare().tasks(ctx)
    assert manifest not in noise.inputs
    manifest.write_text("path\n")
    speech, noise = prepare().tasks(ctx)
    assert manifest in noise.inputs and manifest not in speech.inputs


@pytest.mark.parametrize(
    "tables",
    [
        {"wav.scp": {"a": "/a", "b": "/b"}, "utt2dur": {"a": "1.0"}},
        {"wav.scp": {"a b": "/a"}, "utt2spk": {"a b": "a"}},
        {"wav.scp": {"a": "/a\n"}},
        {"wav.scp": {"a": "/a"}, "audio.npy": {"a": "/a"}},
    ],
)
def test_a_table_that_cannot_be_written_names_the_directory_it_is_for(
    tmp_path: Path, tables: dict[str, dict[str, str]]
) -> None:
    target = tmp_path / "train"
    for write in (lambda: datadir.write(target, tables), lambda: write_part(target, tables)):
        with pytest.raises(PseError) as caught:
            write()
        assert str(target) in str(caught.value) and ".tmp-" not in str(caught.value) and caught.value.fix


def write_part(target: Path, tables: dict[str, dict[str, str]]) -> None:
    with writing_dir(target) as new:
        datadir.write_into(new, tables)
