"""One task of a stage: what it reads, what it makes, whether that is up to date, and running it.

A finished task leaves a record of the config keys, the digests of the files it read and the sizes of
those it made. The same command does nothing while the record holds, and names the key or file when it
does not.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pse
from pse.config import flatten
from pse.errors import StageMissingError, first_three, from_os_error
from pse.io.jsonl import write_json
from pse.recipe import environment

# They say how much a kill can lose and what stays on disk; the weights are the same with any value.
KEYS_WITHOUT_EFFECT = (".checkpoint_every_s", ".keep_checkpoints")


class View:
    """A config that shows only the keys a task declares, so that its fingerprint cannot miss one."""

    def __init__(self, config: Any, reads: tuple[str, ...], path: str = "") -> None:
        self._config, self._reads, self._path = config, reads, path

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}{name}"
        value = self._config[name] if isinstance(self._config, Mapping) else getattr(self._config, name)
        if any(path == r or path.startswith(f"{r}.") for r in self._reads):
            return value
        if any(r.startswith(f"{path}.") for r in self._reads):
            return View(value, self._reads, f"{path}.")
        raise RuntimeError(f"the task reads {path!r} but declares only {self._reads}")


@dataclass(frozen=True)
class Task:
    """A unit of work of a stage.

    name: unique in its stage. reads: config keys or sections. inputs: files made by stage
    `made_by`. outputs: files or directories that exist afterwards. work: directory that holds the
    record. run: does the work, given a view of the config. facts: further values that decide the
    result. wave: tasks of a later wave read what an earlier wave of the same stage makes.
    own_process: whether the task may run beside others, as a process of its own. brief: whether such a
    process would take longer to start than the task often takes. place: directory
    of a training, which is continued when nothing that decides it has changed. cost_s: estimates
    how long it takes at the most, from a step measured here.
    """

    name: str
    stage: str
    reads: tuple[str, ...]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    work: Path
    run: Callable[[Any], None]
    made_by: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    wave: int = 0
    own_process: bool = False
    brief: bool = False
    place: Path | None = None
    cost_s: Callable[[], float] | None = None

    @property
    def record_path(self) -> Path:
        """Where the record of the finished task stands."""
        return self.work / ".done" / self.stage / f"{self.name}.json"

    def fingerprint(self, config: Any) -> dict[str, Any]:
        """Everything that decides the outputs: version, config keys, facts, digests of the inputs."""
        leaves = {
            k: v for k, v in flatten(config)
            if any(k == r or k.startswith(f"{r}.") for r in self.reads) and not k.endswith(KEYS_WITHOUT_EFFECT)
        }  # fmt: skip
        keys = json.loads(json.dumps(leaves | dict(self.facts), sort_keys=True))
        return {"version": pse.__version__, "keys": keys, "inputs": {str(p): digest(p) for p in self.inputs}}

    def why_not_done(self, config: Any) -> str | None:
        """None when the task is up to date, otherwise the reason it has to run, in words."""
        record = _read_record(self.record_path)
        if not record:
            return "missing"
        sizes = record.get("outputs", {})
        damaged = [p for p in self.outputs if not p.exists() or _size(p) != sizes.get(str(p), _size(p))]
        if damaged:
            return f"damaged {first_three(damaged)}"
        now = self.fingerprint(config)
        if record.get("version") != now["version"]:
            return f"pse {record.get('version')} -> {now['version']}"
        return _difference(record["keys"], now["keys"], "") or _difference(record["inputs"], now["inputs"], "file ")

    def check_inputs(self) -> None:
        """Raise StageMissingError when an input is not there, naming the stage that makes it."""
        gone = [p for p in self.inputs if not p.exists()]
        if gone:
            raise StageMissingError(
                f"{len(gone)} input files are missing: {first_three(gone)}",
                f"stage {self.stage}",
                f"run ./run.sh --stage {self.made_by or 'corpus'} --stop_stage {self.stage} first",
            )

    def execute(self, config: Any, afresh: bool = False) -> None:
        """Check the inputs, do the work, and leave the record; `afresh` continues nothing."""
        self.check_inputs()
        start = time.monotonic()
        now = self.fingerprint(config)
        started = self.record_path.with_suffix(".started")
        if self.place is not None and self.place.exists():
            before = _read_record(started) or _read_record(self.record_path)
            if afresh or any(before.get(k) != v for k, v in now.items()):
                print(f"{self.name}: the earlier training is kept in {set_aside(self.place)}", flush=True)
        try:
            write_json(started, now)
            self.record_path.unlink(missing_ok=True)
            self.run(View(config, self.reads))
        except OSError as error:
            raise from_os_error(error) from error
        about = {"seconds": round(time.monotonic() - start, 2), "commit": environment.commit()}
        sizes = {str(p): size for p in self.outputs if (size := _size(p)) is not None}
        write_json(self.record_path, now | about | {"outputs": sizes})
        started.unlink()

    def assist(self, config: Any, afresh: bool = False) -> None:
        """Do the work of `execute` beside the process that does so: the work alone."""
        self.run(View(config, self.reads))


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read_record(path: Path) -> dict[str, Any]:
    """The record, empty when there is none or it is not what `execute` writes."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    parts = ("keys", "inputs", *(["outputs"] if isinstance(record, dict) and "outputs" in record else []))
    whole = isinstance(record, dict) and all(isinstance(record.get(p), dict) for p in parts)
    return record if whole else {}


def set_aside(directory: Path) -> Path:
    """Move a directory to <parent>/.earlier/<name>; the one that was there before makes room."""
    target = directory.parent / ".earlier" / directory.name
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    directory.rename(target)
    return target


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], what: str) -> str | None:
    changed = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
    if not changed:
        return None
    if what:
        return f"{what}changed: {first_three(changed)}"
    return "changed: " + first_three(f"{k} {old.get(k)!r} -> {new.get(k)!r}" for k in changed)


def digest(path: Path) -> str:
    """SHA-256 of a file's content, shortened; empty when there is no such file.

    Of the record of a finished task all but when and by which commit it was made: a training that is
    repeated with the same result leaves what follows from it up to date.
    """
    if not path.is_file():
        return ""
    record = _read_record(path) if ".done" in path.parts else {}
    if record:
        told = {k: v for k, v in record.items() if k not in ("seconds", "commit")}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    """Many tasks share their inputs; a file that did not change is read once a process."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()[:24]
