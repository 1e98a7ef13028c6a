"""utils/stage.sh: which stages run, what is said, and how a failure is told."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = r"""#!/usr/bin/env bash
name=$1
for word in "$@"; do
  case $word in
    --status)
      [[ -e broken ]] && { echo "a library is missing" >&2; exit 3; }
      echo "some library says hello"
      printf 'stale\tsnr.clamp 10 -> 20\n'
      exit ;;
    --dry_run) echo "would run $name"; exit ;;
  esac
done
echo "$name" >>ran
printf '<%s>\n' "$@"
if [[ -e fail.$name ]]; then
  echo "the reason" >&2
  exit "$(<"fail.$name")"
fi
"""
INTERRUPTED = """#!/bin/sh
exec "PYTHON" -c '
import signal, sys, time
def stop(*_):
    time.sleep(0.2)
    print("last words")
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
open("ran", "w").write("x")
time.sleep(20)
'
"""
RECIPE = f"""#!/usr/bin/env bash
set -euo pipefail
stage=0        # N first stage
stop_stage=9   # N last stage
list=false     # print
dry_run=false  # print
tag=           # NAME of the experiment
expdir=exp     # DIR of results
here=$(cd "$(dirname -- "${{BASH_SOURCE[0]}}")" && pwd -P)
source "{ROOT}/utils/parse_options.sh"
cd "$here"
source "{ROOT}/utils/stage.sh"
stage 0 corpus -- ./worker corpus
stage 1 data -- ./worker data "a b'c" '$(touch PWNED)'
stage 2 train -- ./worker train
run_stages
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    folder = tmp_path / "re cipe"
    folder.mkdir()
    for name, text in (("worker", WORKER), ("run.sh", RECIPE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "path.sh").write_text("true\n")
    return folder


def run(recipe: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(recipe / "run.sh"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


def ran(recipe: Path) -> list[str]:
    return (recipe / "ran").read_text().split() if (recipe / "ran").exists() else []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["corpus", "data", "train"]),
        (("--stage", "1"), ["data", "train"]),
        (("--stage", "data"), ["data", "train"]),
        (("--stop_stage", "data"), ["corpus", "data"]),
        (("--stage", "1", "--stop-stage", "1"), ["data"]),
        (("--stage", "01", "--stop-stage", "10000"), ["data", "train"]),
        (("--stage", "-1", "--stop_stage", "0"), ["corpus"]),
    ],
)
def test_the_stages_between_the_two_named_run_in_order(recipe, options, expected):
    done = run(recipe, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert ran(recipe) == expected
    assert [f"== stage {i} {n} ==" in done.stdout for i, n in enumerate(("corpus", "data", "train"))] == [
        n in expected for n in ("corpus", "data", "train")
    ]


@pytest.mark.parametrize("name", ["trian", "3", "", "99999999999999999999", "$(touch PWNED)", "a[$(touch PWNED)]"])
def test_an_unknown_stage_is_refused_before_anything_runs(recipe, name):
    done = run(recipe, f"--stage={name}")
    assert done.returncode == 1 and ran(recipe) == []
    assert "the stages are 0 corpus, 1 data, 2 train" in done.stderr and done.stderr.count("\n") == 1
    assert not (recipe / "PWNED").exists()


def test_a_range_that_is_empty_is_refused(recipe):
    done = run(recipe, "--stage", "train", "--stop_stage", "0")
    assert done.returncode == 1 and "comes after" in done.stderr


def test_a_log_has_the_command_the_output_and_the_exit_status(recipe):
    assert run(recipe, "--tag", "a/b").returncode == 0
    log = (recipe / "exp" / "log" / "a_b.1.data.log").read_text().splitlines()
    assert shlex.split(log[0].removeprefix("# ")) == ["./worker", "data", "a b'c", "$(touch PWNED)"]
    assert log[2:5] == ["<data>", "<a b'c>", "<$(touch PWNED)>"]
    assert log[-1].startswith("# Ended (code 0) after")


@pytest.mark.parametrize("status", [1, 2, 3, 4, 77])
def test_a_failure_stops_the_run_and_keeps_the_exit_status(recipe, status):
    (recipe / "fail.data").write_text(f"{status}\n")
    done = run(recipe)
    assert done.returncode == status and ran(recipe) == ["corpus", "data"]
    assert "the reason" in done.stdout
    assert "== stage 1 data: failed with exit status" in done.stderr
    assert "log: exp/log/1.data.log" in done.stderr
    log = (recipe / "exp" / "log" / "1.data.log").read_text()
    assert "the reason" in log and f"# Ended (code {status})" in log


def test_the_command_told_after_a_failure_repeats_the_stage(recipe):
    (recipe / "fail.data").write_text("1\n")
    told = run(recipe).stderr.split("to repeat this stage: ")[1]
    (recipe / "fail.data").unlink()
    again = subprocess.run(["bash", "-c", told], capture_output=True, text=True, cwd="/")
    assert again.returncode == 0
    assert again.stdout.splitlines() == ["<data>", "<a b'c>", "<$(touch PWNED)>"]


def test_list_shows_every_stage_and_runs_none(recipe):
    done = run(recipe, "--list")
    assert done.returncode == 0 and ran(recipe) == []
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["#", "stage", "state", "detail"]
    assert [r.split(maxsplit=3) for r in rows[1:]] == [
        [str(i), n, "stale", "snr.clamp 10 -> 20"] for i, n in enumerate(("corpus", "data", "train"))
    ]
    assert not (recipe / "exp").exists()


def test_a_stage_that_cannot_say_how_it_stands_ends_the_list_with_its_reason(recipe):
    (recipe / "broken").touch()
    done = run(recipe, "--list")
    assert (done.returncode, done.stderr) == (3, "a library is missing\n")


def test_dry_run_is_handed_on_and_writes_nothing(recipe):
    done = run(recipe, "--dry_run", "--stage", "data")
    assert done.returncode == 0 and ran(recipe) == [] and not (recipe / "exp").exists()
    assert "would run data" in done.stdout and "would run train" in done.stdout


def test_a_dry_run_goes_on_past_a_stage_that_waits_for_another(recipe):
    (recipe / "worker").write_text('#!/bin/sh\n[ "$1" = data ] || exec echo "would run $1"\necho no >&2\nexit 2\n')
    done = run(recipe, "--dry_run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "would run corpus" in done.stdout and "would run train" in done.stdout
    assert "cannot be told before the stages above have run" in done.stdout


def test_an_experiment_directory_that_cannot_be_made_is_one_line(recipe):
    (recipe / "file").touch()
    done = run(recipe, "--expdir", str(recipe / "file"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "--expdir" in done.stderr


def test_a_killed_command_fails_the_run(recipe):
    (recipe / "worker").write_text("#!/usr/bin/env bash\nkill -KILL $$\n")
    done = run(recipe)
    assert done.returncode == 137 and "failed with exit status 137" in done.stderr
    assert "# Ended (code 137)" in (recipe / "exp" / "log" / "0.corpus.log").read_text()


def test_the_last_words_of_a_command_outlive_an_interrupt(recipe):
    (recipe / "worker").write_text(INTERRUPTED.replace("PYTHON", sys.executable))
    command = [str(recipe / "run.sh")]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True) as process:
        while not ran(recipe):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert "last words" in stdout and "stage 0 corpus: stopped" in stderr
    assert process.returncode == 130
