"""Jobs through Slurm: `sbatch` starts them, one `squeue` tells how all of them are, `scancel` ends them.

A job is found again by its name, which has a digest of its place and one of what it does. Jobs of a stage
that was killed go on; the next command waits for those that do what it would start, and first ends those
that do something else in the same place. Slurm forgets exit codes after minutes, so a job leaves its own
beside its log: the machines that run jobs have to share the file system of the stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pse.errors import EnvironmentFault, PseError, first_three
from pse.recipe.launchers.base import LOST, Call, Launcher, read_options

# States that a job does not leave again. From any other one, also one that is unknown here, it may go on.
FINAL = frozenset(
    "COMPLETED FAILED CANCELLED TIMEOUT NODE_FAIL OUT_OF_MEMORY BOOT_FAIL DEADLINE PREEMPTED REVOKED".split()
)
# Options of sbatch that would take from the launcher what it relies on.
OURS = frozenset("array chdir clusters error help input job-name output parsable test-only version wait wrap".split())
# What Slurm says when the same command may succeed a little later.
_BUSY = re.compile(r"timed out|unable to contact|temporarily|connection refused|zero bytes", re.IGNORECASE)
_RETRY_S = (5, 30, 120)

# Least and most time between two questions: a scheduler serves many users.
_ASK_S = (1.0, 15.0)
# A network file system may show a file that another machine has made only after so long.
_FILES_S = 60.0
# A job that is ended has half a minute (Slurm's KillWait), unless the cluster says otherwise.
_END_S = 60.0

_SCRIPT = """#!/bin/sh
exec >>{log} 2>&1
echo "# job $SLURM_JOB_ID of Slurm on $(uname -n)"
cd -- {directory} || exit
# The shell has to outlive the signal that ends a job, to tell the exit code.
trap : TERM
export {variables}
{command}
code=$?
echo "$SLURM_JOB_ID $code" >{told}.new && mv -f {told}.new {told}
exit "$code"
"""


class SlurmJob:
    """A job that Slurm knows by its number; `told` is the file that it leaves its exit code in."""

    def __init__(self, launcher: Slurm, number: str, told: Path) -> None:
        self.launcher, self.number, self.told = launcher, number, told
        self.code: int | None = None
        self.cause = ""
        self._untold_since = 0.0

    def poll(self) -> int | None:
        """Its exit code, None while it waits or runs."""
        if self.code is None:
            self.launcher.ask()
        return self.code

    def settle(self, state: str) -> None:
        """Note how it ended, if it did; `state` is empty when Slurm does not know it any more."""
        over = state in FINAL or not state
        code = self._told_code() if over or state == "COMPLETING" else None
        if not over and code != 0:
            self._untold_since = 0.0
            return
        plain = state in ("", "COMPLETED", "FAILED", "COMPLETING")
        if code is None and plain:
            self._untold_since = self._untold_since or time.monotonic()
            if time.monotonic() - self._untold_since < _FILES_S:
                return
        self.code = LOST if code is None else code
        if code is None:
            self.cause = f"job {self.number} left no exit code, Slurm says {state or 'nothing about it'}"
        elif not plain:
            self.cause = f"job {self.number}, Slurm says {state}"

    def _told_code(self) -> int | None:
        try:
            number, code = self.told.read_text(encoding="utf-8").split()
            return int(code) if number == self.number else None
        except (OSError, ValueError):
            return None


class Slurm(Launcher):
    """Submits jobs, with the options of sbatch that stand in conf/launchers/slurm.yaml."""

    def __init__(self, recipe_dir: Path, stages: Iterable[str]) -> None:
        self._where = recipe_dir / "conf" / "launchers" / "slurm.yaml"
        given = read_options("slurm", recipe_dir, stages)
        self._options = {stage: _checked(options, self._where) for stage, options in given.items()}
        self._open: list[SlurmJob] = []
        self._sending = ""
        self._pause_s, self._next, self._silent = _ASK_S[0], 0.0, False

    def check(self) -> None:
        """Raise EnvironmentFault when there is no sbatch."""
        if not shutil.which("sbatch"):
            raise EnvironmentFault("sbatch is not found", "--cmd slurm", "use a machine of the cluster, or --cmd local")

    def earlier(self, calls: Sequence[Call]) -> Mapping[str, SlurmJob]:
        """Jobs of an earlier command that do the same; those that do something else are ended."""
        table = self._table()
        if table is None:
            raise EnvironmentFault("squeue does not answer", "--cmd slurm", "try again later, or use --cmd local")
        found: dict[str, SlurmJob] = {}
        others = []
        for call in calls:
            name = self._name(call)
            for number, (state, known) in table.items():
                if state in FINAL or known.rpartition("-")[0] != name.rpartition("-")[0]:
                    continue
                if known == name and state != "COMPLETING" and call.task not in found:
                    found[call.task] = self._job(call, number)
                else:
                    others.append(number)
        if found:
            named = first_three(f"{task} (job {job.number})" for task, job in found.items())
            _say(f"{len(found)} jobs of an earlier command still wait or run: {named}")
        if others:
            left = self._end(others, f"ending {len(others)} jobs of an earlier command: {first_three(others)}")
            if left:
                fix = f"see: squeue --jobs={','.join(left)}"
                raise EnvironmentFault(f"{len(left)} jobs of an earlier command do not end", "--cmd slurm", fix)
        return found

    def start(self, call: Call) -> SlurmJob:
        """Submit a job."""
        options, told = self._options[call.stage], _told(call)
        call.log.parent.mkdir(parents=True, exist_ok=True)
        for file in (call.log, told):
            file.unlink(missing_ok=True)
        variables = {"PSE_JOB": "slurm", "OMP_NUM_THREADS": options.get("cpus-per-task", "1")} | call.environment
        script = _SCRIPT.format(
            log=shlex.quote(str(call.log)), told=shlex.quote(str(told)), directory=shlex.quote(os.getcwd()),
            variables=shlex.join(f"{k}={v}" for k, v in variables.items()), command=shlex.join(call.command),
        )  # fmt: skip
        words = [f"--{key}={value}" if value else f"--{key}" for key, value in options.items()]
        if call.gpus and not any(key == "gres" or key.startswith("gpus") for key in options):
            words.append(f"--gres=gpu:{call.gpus}")
        self._sending = name = self._name(call)
        number = self._submit(["sbatch", "--parsable", f"--job-name={name}", "--output=/dev/null", *words], script)
        self._sending = ""
        return self._job(call, number)

    def stop(self, jobs: Collection[SlurmJob]) -> None:
        """Cancel jobs, and wait until they have ended."""
        numbers = {job.number for job in jobs}
        if self._sending:
            numbers.update(self._numbers_of(self._sending))
        if not numbers:
            return
        left = self._end(numbers, f"ending {len(numbers)} jobs: {first_three(sorted(numbers))}")
        if left:
            _say(f"{len(left)} jobs have not ended yet, see: squeue --jobs={','.join(left)}")

    def ask(self) -> None:
        """Ask Slurm how the jobs are, if it is time to; it is asked less often the longer nothing ends."""
        if time.monotonic() < self._next:
            return
        table = self._table()
        for job in self._open if table is not None else []:
            job.settle(table.get(job.number, ("", ""))[0])
        before, self._open = len(self._open), [job for job in self._open if job.code is None]
        self._pause_s = _ASK_S[0] if len(self._open) < before else min(_ASK_S[1], 1.2 * self._pause_s)
        self._next = time.monotonic() + self._pause_s

    def _job(self, call: Call, number: str) -> SlurmJob:
        job = SlurmJob(self, number, _told(call))
        self._open.append(job)
        self._next = 0.0
        return job

    def _name(self, call: Call) -> str:
        """stage.task-place-what, with digests of the place and of what is done there."""
        what = json.dumps(
            [call.identity, call.command, dict(call.environment), call.gpus, self._options[call.stage]], sort_keys=True
        )
        place, work = (hashlib.sha256(text.encode()).hexdigest()[:10] for text in (str(call.log), what))
        return f"{call.stage}.{call.task}-{place}-{work}"

    def _submit(self, words: list[str], script: str) -> str:
        for pause_s in (*_RETRY_S, 0):
            done = _slurm(words, script)
            if done.returncode == 0:
                return done.stdout.strip().split(";")[0]
            if not pause_s or not _BUSY.search(done.stderr):
                break
            time.sleep(pause_s)
            # Only the answer may have been lost, and not the job.
            if numbers := self._numbers_of(self._sending):
                return numbers[0]
        self._sending = ""
        fix = "give options of sbatch in this file, or lower --nj"
        raise PseError(f"Slurm refuses the job: {_first_line(done.stderr)}", self._where, fix)

    def _numbers_of(self, name: str) -> list[str]:
        return [n for n, (state, known) in (self._table() or {}).items() if known == name and state not in FINAL]

    def _table(self) -> dict[str, tuple[str, str]] | None:
        """State and name of every job of this user, by number; None when Slurm does not answer."""
        done = _slurm(["squeue", "--noheader", "--all", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%j"])
        if done.returncode:
            if not self._silent:
                _say(f"squeue does not answer, asking again: {_first_line(done.stderr)}")
            self._silent = True
            return None
        self._silent = False
        rows = (line.strip().split("|", 2) for line in done.stdout.splitlines())
        return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}

    def _end(self, numbers: Iterable[str], told: str) -> list[str]:
        """Cancel jobs, say so, and wait until they have ended; returns those that have not."""
        left, deadline = sorted(numbers), time.monotonic() + _END_S
        _slurm(["scancel", *left])
        _say(told)
        while left and time.monotonic() < deadline:
            time.sleep(_ASK_S[0])
            table = self._table()
            left = [n for n in left if table is None or (n in table and table[n][0] not in FINAL)]
        return left


def _say(line: str) -> None:
    """Say something, also to a terminal that is gone: jobs have to be ended then as well."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _told(call: Call) -> Path:
    return call.log.with_name(f"{call.task}.exit")


def _slurm(words: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of Slurm to its end, out of reach of Ctrl-C."""
    try:
        return subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=60, start_new_session=True, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"{words[0]} timed out")
    except OSError as error:
        told = f"{words[0]} cannot be started: {error.strerror}"
        raise EnvironmentFault(told, "--cmd slurm", "use a machine of the cluster, or --cmd local") from error


def _first_line(text: str) -> str:
    lines = [re.sub(r"^\w+: (?:error: )?", "", line) for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "it does not say why"


def _checked(options: Mapping[str, Any], where: Path) -> dict[str, str]:
    """Options as sbatch takes them, by their long names; the value of a switch is empty."""
    out = {}
    for key, value in options.items():
        name = key.replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            raise PseError(f"{key!r} is not a long option of sbatch", where, "write e.g. partition: gpu")
        if name in OURS:
            raise PseError(f"{key} cannot be given here: the launcher relies on its own", where, "leave it out")
        if name.startswith("time") and not isinstance(value, str):
            # YAML reads 4:00:00 as the number 14400, which Slurm would take for minutes.
            raise PseError(f"{key} has to stand in quotes", where, f'write e.g. {key}: "4:00:00"')
        if not isinstance(value, str | int | float) or "\0" in str(value):
            raise PseError(f"{key} cannot be {value!r}", where, "give text, a number, or true")
        if value is not False:
            out[name] = "" if value is True else str(value)
    return out


PLUGIN = Slurm
