"""The scripts a user calls: data directory checks, the recipe's own run.sh, and the set-up."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pse.io import datadir
from pse.recipe.options import add_arguments
from pse.registry import find, names

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs" / "librispeech_pse"


def call(*words: str | Path, env: dict[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program without a terminal, and keep what it says."""
    command = [str(w) for w in words]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=cwd, timeout=60, stdin=subprocess.DEVNULL
    )


@pytest.fixture
def data(tmp_path) -> Path:
    """A sound data directory of two utterances."""
    wav = {key: str(tmp_path / f"a b'c {key}.wav") for key in ("s1-a", "s1-b")}
    for path in wav.values():
        soundfile.write(path, 0.1 * np.ones(1600, dtype=np.float32), 16000)
    datadir.write(tmp_path / "my data", {"wav.scp": wav, "utt2spk": {key: "s1" for key in wav}})
    return tmp_path / "my data"


def test_data_directories_are_checked_and_mended(data, environ):
    check, mend = ROOT / "utils" / "validate_data_dir.sh", ROOT / "utils" / "fix_data_dir.sh"
    assert call(check, data, env=environ).returncode == 0
    (data / "utt2spk").write_text("s1-a s1\ns1-b\n")
    told = call(check, data, env=environ)
    assert told.returncode == 1 and "utt2spk: 1 malformed lines" in told.stderr
    shown = call(mend, data, env=environ)
    assert shown.returncode == 0 and "-s1-b" in shown.stdout and "--apply true" in shown.stdout
    assert call(check, data, env=environ).returncode == 1
    assert call(mend, data, "--apply", "true", env=environ).returncode == 0
    assert call(check, data, "--fs", "16000", env=environ).returncode == 0
    assert call(check, data, "--fs", "8000", env=environ).returncode == 1


def test_a_directory_that_is_not_there_is_one_line(environ):
    told = call(ROOT / "utils" / "validate_data_dir.sh", "/nowhere", env=environ)
    assert told.returncode == 1 and len(told.stderr.splitlines()) == 1


def test_without_an_environment_the_remedy_is_told(tmp_path):
    env = {**os.environ, "PSE_VENV": str(tmp_path)}
    for script in (RECIPE / "run.sh", ROOT / "utils" / "fix_data_dir.sh", ROOT / "utils" / "show_results.sh"):
        told = call(script, env=env)
        assert told.returncode == 3 and "make setup" in told.stderr and len(told.stderr.splitlines()) == 1


def test_help_needs_no_environment(tmp_path):
    told = call(RECIPE / "run.sh", "--help", env={**os.environ, "PSE_VENV": str(tmp_path)}, cwd=tmp_path)
    assert told.returncode == 0 and "--stop_stage" in told.stdout


def stages() -> list[tuple[int, str, str]]:
    """(number, name, command) of each stage in run.sh."""
    found = re.findall(r"^stage (\d+) (\w+) -- (.*)$", (RECIPE / "run.sh").read_text(), re.M)
    return [(int(number), name, command) for number, name, command in found]


def test_the_recipe_has_the_stages_in_order():
    assert [(number, name) for number, name, _ in stages()] == list(
        enumerate("corpus data features snr_predictor pretrain finetune enhance score report pack".split())
    )
    assert {name for _, name, _ in stages()} == {*find("recipe", "personal").stages, "data"}


def test_every_option_that_is_handed_on_is_understood():
    text = (RECIPE / "run.sh").read_text()
    handed = re.search(r"^hand_on common ((?:.|\\\n)*?[^\\])$", text, re.M).group(1).replace("\\\n", " ").split()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    known = {option.removeprefix("--") for action in parser._actions for option in action.option_strings}
    assert [name for name in handed if name not in known] == []
    declared = re.findall(r"^(\w+)=\S*\s+# ", text, re.M)
    assert sorted(declared) == sorted({*handed, "stage", "stop_stage", "list", "dry_run"})


def test_list_works_from_any_directory_and_writes_nothing(tmp_path, environ):
    work = ("--datadir", "d", "--dumpdir", "e", "--expdir", "f g")
    told = call(RECIPE / "run.sh", "--list", *work, env=environ, cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    rows = [line.split()[:3] for line in told.stdout.splitlines()[1:]]
    assert rows == [[str(number), name, "missing"] for number, name, _ in stages()]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["$(touch PWNED)", "base", "local.py", "s*", "../local"])
def test_an_unknown_launcher_is_one_line(environ, name):
    told = call(RECIPE / "run.sh", f"--cmd={name}", env=environ)
    assert told.returncode == 1 and len(told.stderr.splitlines()) == 1
    assert told.stderr.endswith(f"the launchers are: {', '.join(names('launcher'))}\n")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What tools/setup.sh needs of a checkout, below a folder with a blank in its name."""
    root = tmp_path / "check out"
    for name in ("tools", "utils"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PSE_PYTHON": "/bin/false"}, "PSE_PYTHON=/bin/false is not a Python of version 3.10 or newer"),
        ({"PSE_PYTHON": "no such program"}, "is not a Python of version 3.10 or newer"),
        ({"PSE_VENV": "{root}/tools"}, "is no virtual environment"),
        ({"PSE_VENV": "{root}/setup.py"}, "is no virtual environment"),
    ],
)
def test_a_set_up_that_cannot_work_says_why(checkout, variables, told):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PSE_")}
    env |= {k: v.format(root=checkout) for k, v in variables.items()}
    before = sorted(checkout.rglob("*"))
    done = call(checkout / "tools" / "setup.sh", env=env, cwd=checkout)
    assert done.returncode == 3 and told in done.stderr.splitlines()[-1]
    assert sorted(checkout.rglob("*")) == before


def test_a_set_up_without_network_says_so(checkout):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PSE_", "PIP_"))}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_CACHE_DIR": "1"}
    done = call(checkout / "tools" / "setup.sh", env=env, cwd=checkout)
    assert done.returncode == 3 and "the package index cannot be reached" in done.stderr
    assert not (checkout / ".venv" / ".pse-setup").exists()


def test_an_environment_that_is_up_to_date_is_left_alone(checkout):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PSE_")} | {"PSE_PYTHON": "/bin/false"}
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("pse", "python"):
        (programs / name).write_text("#!/bin/sh\nexit 0\n")
        (programs / name).chmod(0o755)
    stamped = call(checkout / "tools" / "setup.sh", env=env, cwd=checkout)
    assert stamped.returncode == 0, stamped
    ready = call(checkout / "tools" / "setup.sh", env=env, cwd=checkout)
    assert ready.returncode == 0 and ready.stdout.endswith("(up to date)\n")
    with open(checkout / "tools" / "constraints.txt", "a") as file:
        file.write("x==1\n")
    changed = call(checkout / "tools" / "setup.sh", env=env, cwd=checkout)
    assert "installing packages" in changed.stdout
