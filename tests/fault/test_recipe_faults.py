"""The recipe under attack: kill -9 anywhere, a full disk, two at once, broken corpora and lists."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from tests.recipe_place import Place

pytestmark = pytest.mark.slow

STAGES = "corpus data features snr_predictor pretrain finetune enhance score report pack".split()


def results(place: Place) -> dict[str, bytes]:
    """What must not depend on how often a run was killed: weights, scores, mixtures, enhanced audio."""
    kinds = ("model.safetensors", "scores.tsv", "specs.jsonl", "audio.npy", ".wav", "wav.scp")
    return {
        name: content.replace(str(place.root).encode(), b"")
        for name, content in place.files().items()
        if name.endswith(kinds) and "checkpoint/" not in name
    }


def test_kill_9_in_every_stage_loses_nothing(tmp_path: Path, finished: Place) -> None:
    place, rng = Place(tmp_path), random.Random(0)
    for stage in STAGES:
        for _ in range(2):
            process = subprocess.Popen(
                place.arguments("--stage", stage, "--stop_stage", stage), start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=place.environment(),
            )  # fmt: skip
            time.sleep(rng.uniform(0.3, 4.0))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        place.run("--stage", stage, "--stop_stage", stage)
    want, got = results(finished), results(place)
    assert got.keys() == want.keys()
    assert [n for n in want if got[n] != want[n]] == []


def test_a_job_ends_with_the_stage_that_started_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.run("--stop_stage", "snr_predictor")
    slow = ("--set", "pretrain.training.max_examples=100000", "--set", "pretrain.training.min_examples=100000")
    process = subprocess.Popen(
        place.arguments("--stage", "pretrain", "--stop_stage", "pretrain", *slow), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=place.environment(),
    )  # fmt: skip
    stage = psutil.Process(process.pid)
    jobs = _wait(lambda: [p for p in stage.children(recursive=True) if "--only" in _command_line(p)], 2)
    told = place.run("--stage", "pretrain", "--stop_stage", "pretrain", expect=1)
    assert "is being written by" in told and "--tag" in told
    parents = {job.ppid() for job in jobs}
    for pid in parents:
        os.kill(pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(jobs, timeout=30)
    process.wait()
    assert not alive


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # a helper of the shell that ended between the listing and this call
        return []


def _wait(find: Callable[[], list[psutil.Process]], how_many: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = find()
        if len(found) >= how_many:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{how_many} jobs did not start")


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.run("--stop_stage", "data")
    command = place.arguments("--stage", "features", "--stop_stage", "features")
    # A limit on the size of a file stands in for the end of the disk: the write fails in the same place.
    script = 'ulimit -f 200; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command], capture_output=True, text=True, env=place.environment(), check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert "no room left to write" in told and "Traceback" not in told
    place.run("--stage", "features", "--stop_stage", "features")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("nan", "NaN"),
        ("empty", "0 bytes"),
        ("corrupt", "cannot be"),
        ("silent", "silent"),
        ("foreign id", "does not fit"),
        ("missing part", "target speakers"),
    ],
)
def test_a_broken_corpus_is_one_line_that_names_the_file(
    tmp_path: Path, finished: Place, kind: str, told: str
) -> None:
    place = Place(tmp_path)
    source = finished.root / "downloads" / "mini"
    for name in ("LibriSpeech", "FSD50K", "musan"):
        shutil.copytree(source / name, place.root / "my corpora" / name)
    speech = place.root / "my corpora" / "LibriSpeech" / "train-clean-100"
    victim = sorted((speech / "19").rglob("*.flac"))[0]
    harm(kind, speech, victim)
    given = [x for n, d in (("librispeech", "LibriSpeech"), ("fsd50k", "FSD50K"), ("musan", "musan"))
             for x in (f"--{n}_dir", str(place.root / "my corpora" / d))]  # fmt: skip
    shown = place.run("--corpus", "full", *given, "--stop_stage", "features", expect=1)
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and told in errors[0], shown
    assert "Traceback" not in shown


def harm(kind: str, speech: Path, victim: Path) -> None:
    """Break one thing of a LibriSpeech tree."""
    if kind == "nan":
        broken = np.zeros(80000, np.float32)
        broken[5] = np.nan
        # A WAV under the name of a FLAC: libsndfile goes by content, as users' files often make it.
        soundfile.write(victim, broken, 16000, format="WAV", subtype="FLOAT")
    elif kind == "empty":
        victim.write_bytes(b"")
    elif kind == "corrupt":
        victim.write_bytes(victim.read_bytes()[:5000] + b"\0" * 5000)
    elif kind == "silent":
        soundfile.write(victim, np.zeros(80000), 16000)
    elif kind == "foreign id":
        victim.rename(victim.with_name("26-1-0000.flac"))
    elif kind == "missing part":
        shutil.rmtree(speech / "19")
    else:
        raise AssertionError(kind)
