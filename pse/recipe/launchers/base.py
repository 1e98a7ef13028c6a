"""What a launcher does: it starts the commands of jobs somewhere, and says how they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from pse.config import read_yaml
from pse.errors import PseError

# Exit code of a job that its engine lost: the environment failed, not the job.
LOST = 3


@dataclass(frozen=True)
class Call:
    """A job to start: the words of its command, the file for what it says, GPUs to itself.

    task: its name, unique in its stage. environment: variables besides those of the stage, in whose
    directory the command runs. identity: digest of all that decides what the job makes. brief: whether
    starting a process takes longer than the job often does.
    """

    stage: str
    task: str
    command: tuple[str, ...]
    log: Path
    gpus: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    brief: bool = False


class Job(Protocol):
    """A job that was started. cause: why it ended, where the engine knows more than an exit code."""

    cause: str

    def poll(self) -> int | None:
        """Its exit code (below 0: the signal that ended it), None as long as it waits or runs."""
        ...


class Launcher(ABC):
    """Starts jobs. A module of this package names its own class in `PLUGIN`.

    It is made by every command of a recipe, so making it reads and checks conf/launchers/<name>.yaml and
    no more; `stages` are the names that may stand in there. elsewhere: whether jobs may run on machines
    other than this one, and get their GPUs from the engine.
    """

    elsewhere = True

    def __init__(self, recipe_dir: Path, stages: Iterable[str]) -> None:  # noqa: B027 (most have nothing to read)
        pass

    def check(self) -> None:  # noqa: B027 (most need no engine)
        """Raise EnvironmentFault when the engine is not there."""

    def earlier(self, calls: Sequence[Call]) -> Mapping[str, Job]:
        """Jobs of an earlier command, by task, that do what these calls ask and still wait or run.

        Those that do something else in the same place are ended first.
        """
        return {}

    @abstractmethod
    def start(self, call: Call) -> Job:
        """Start a job. Raises PseError when it is refused, EnvironmentFault when the engine is not there."""

    @abstractmethod
    def stop(self, jobs: Collection[Job]) -> None:
        """End these jobs so that they can write their checkpoints, wait for that, and let go of the engine."""


def read_options(name: str, recipe_dir: Path, stages: Iterable[str]) -> dict[str, dict[str, Any]]:
    """conf/launchers/<name>.yaml: options of the engine for a stage, over those under `default`.

    Returns the options of every stage. Raises PseError for a stage that the recipe does not have.
    """
    path = recipe_dir / "conf" / "launchers" / f"{name}.yaml"
    given = read_yaml(path) if path.exists() else {}
    known = ["default", *stages]
    for key, options in given.items():
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
            raise PseError(f"no stage is named {key!r}", path, hint)
        if options is not None and not isinstance(options, dict):
            raise PseError(f"{key}: must be a mapping of options to values, got {options!r}", path)
    default = given.get("default") or {}
    return {stage: default | (given.get(stage) or {}) for stage in known}
