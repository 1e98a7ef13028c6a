"""The options that every stage command shares, and the context they add up to."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pse.config import apply_overrides, bind, convert, plain, read_yaml
from pse.errors import EnvironmentFault, PseError
from pse.recipe.environment import num_cores
from pse.recipe.launchers.base import Launcher
from pse.registry import find

# Options that only set a config key: a directory given on the command line is data, like any other.
SHORTHANDS = {
    "seed": "seed",
    "fs": "sample_rate",
    "corpus": "corpus.name",
    "librispeech_dir": "corpus.librispeech_dir",
    "fsd50k_dir": "corpus.fsd50k_dir",
    "musan_dir": "corpus.musan_dir",
    "noise_dir": "corpus.noise_dir",
    "voice_dir": "corpus.voice_dir",
    "audiomnist_dir": "corpus.audiomnist_dir",
    "wsj0_dir": "corpus.wsj0_dir",
    "lists_dir": "corpus.lists_dir",
}

# Options whose value is a whole number, and an example for those who give another.
NUMBERS = {
    "seed": (re.compile(r"([0-9]+)"), "write e.g. --seed 0"),
    "fs": (re.compile(r"([0-9]+)(k?)(?:hz)?", re.IGNORECASE), "write e.g. --fs 16000 or --fs 16k"),
}

DEVICES = Path("/dev")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Context:
    """Where a recipe reads and writes, and what it was told."""

    recipe: Any
    config: Any
    recipe_dir: Path
    data: Path
    dump: Path
    exp: Path
    tag: str
    launcher: Launcher
    ngpu: int
    nj: int
    keep_going: bool
    options: tuple[str, ...]

    @property
    def devices(self) -> int:
        """GPUs of a training in this process, 0 for the CPU: one, or one for each process that shares it."""
        return min(self.ngpu, int(os.environ.get("WORLD_SIZE", "1")))

    def repeat(self, stage: str, task: str | None = None) -> str:
        """The command that runs one stage, or one task of it, again."""
        only = ["--only", task] if task else []
        return shlex.join(["./run.sh", "--stage", stage, "--stop_stage", stage, *self.options, *only])


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are a PseError: one line, and not the exit code of a missing stage."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint."""
        raise PseError(message, self.prog, "see --help")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shared options to a stage command."""
    parser.add_argument("--recipe", required=True, help="name of the recipe family, e.g. personal")
    parser.add_argument("--recipe_dir", type=Path, default=Path("."), help="the recipe's directory")
    parser.add_argument("--config", type=Path, help="YAML file with the keys that differ from the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one config key")
    parser.add_argument("--datadir", type=Path, default=Path("data"))
    parser.add_argument("--dumpdir", type=Path, default=Path("dump"))
    parser.add_argument("--expdir", type=Path, default=Path("exp"))
    parser.add_argument("--tag", default="", help="name of the experiment; default: the config's name + overrides")
    parser.add_argument("--ngpu", type=int, default=None, help="GPUs to use; default: 1 where one is seen, else 0")
    parser.add_argument("--nj", type=int, default=num_cores(), help="jobs side by side")
    parser.add_argument("--cmd", default="local", help="the launcher: where the jobs run, e.g. local, slurm or ray")
    for option, key in SHORTHANDS.items():
        parser.add_argument(f"--{option}", help=f"sets {key}")
    parser.add_argument("--only", help="run this task only")
    parser.add_argument("--keep_going", action="store_true", help="run the other tasks when one has failed")
    parser.add_argument("--force", action="store_true", help="run also what is up to date")
    parser.add_argument("--status", action="store_true", help="print done, stale or missing, and stop")
    parser.add_argument("--dry_run", action="store_true", help="print what would run, and stop")


def context(args: argparse.Namespace, argv: list[str]) -> Context:
    """Read and check the config, and fix the directories.

    The data and dump directories are told apart by corpus, the experiment directory by tag.
    """
    recipe = find("recipe", args.recipe, "--recipe")
    launcher = find("launcher", args.cmd, "--cmd")(args.recipe_dir, recipe.stages)
    raw = read_yaml(_config_path(args)) if args.config else {}
    _check_directories(args)
    if args.nj < 1:
        raise PseError(f"{args.nj} jobs cannot run", "--nj", "give at least 1")
    overrides = [f"{SHORTHANDS[o]}={json.dumps(v)}" for o, v in _shorthands(args, recipe.config).items()]
    # Models twice: a key inside a model file can be changed, and a model can be replaced by another file.
    raw = apply_overrides(_resolve_models(raw, args.recipe_dir), overrides + args.set)
    raw = recipe.called(recipe.expand)(raw)
    config = bind(recipe.config, _resolve_models(raw, args.recipe_dir), _told_by(args))
    tag = args.tag or _default_tag(args, config)
    if not TAG.fullmatch(tag):
        raise PseError(f"{tag!r} cannot name a directory", "--tag", "use letters, digits and . _ -")
    return Context(
        recipe=recipe,
        config=config,
        recipe_dir=args.recipe_dir,
        data=args.datadir / config.corpus.name,
        dump=args.dumpdir / config.corpus.name,
        exp=args.expdir / tag,
        tag=tag,
        launcher=launcher,
        ngpu=_num_gpus(args.ngpu, launcher.elsewhere),
        nj=args.nj,
        keep_going=args.keep_going,
        options=tuple(argv),
    )


def _told_by(args: argparse.Namespace) -> str:
    """Where the config comes from, for error lines."""
    given = [f"--{option}" for option in ("set", *SHORTHANDS) if getattr(args, option)]
    return f"{args.config or 'config'}{' with ' if given else ''}{', '.join(given)}"


def _check_directories(args: argparse.Namespace) -> None:
    for option in ("recipe_dir", "datadir", "dumpdir", "expdir", *(o for o in SHORTHANDS if o.endswith("_dir"))):
        # The tables of a data directory have one line an entry.
        if len(str(getattr(args, option) or "").splitlines()) > 1:
            raise PseError(f"{str(getattr(args, option))!r} holds a newline", f"--{option}", "rename the directory")


def _config_path(args: argparse.Namespace) -> Path:
    inside = args.recipe_dir / args.config
    return inside if not args.config.exists() and inside.exists() else args.config


def _shorthands(args: argparse.Namespace, schema: Any) -> dict[str, Any]:
    """Value of every option that sets a config key, checked against the type of that key."""
    out = {}
    for option, key in SHORTHANDS.items():
        value = getattr(args, option)
        if value is None or value == "":
            continue
        if option in NUMBERS:
            value = _number(option, str(value))
        convert(value, _annotation(schema, key), f"--{option}")
        out[option] = value
    return out


def _number(option: str, text: str) -> int:
    pattern, example = NUMBERS[option]
    found = pattern.fullmatch(text)
    if not found or len(text) > 20:
        raise PseError(f"{text!r} is not a whole number", f"--{option}", example)
    return int(found[1]) * (1000 if any(found.groups()[1:]) else 1)


def _annotation(schema: Any, key: str) -> Any:
    """The type that a schema asks of a dotted key; Any where it has no such key, which binding tells."""
    for name in key.split("."):
        schema = Any if schema is Any else typing.get_type_hints(schema).get(name, Any)
    return schema


def _resolve_models(raw: Any, recipe_dir: Path) -> Any:
    """Put the content of conf/models/x.yaml where a `model:` key names that file."""
    if isinstance(raw, dict):
        return {
            k: read_yaml(recipe_dir / v) if k == "model" and isinstance(v, str) else _resolve_models(v, recipe_dir)
            for k, v in raw.items()
        }
    return raw


def _default_tag(args: argparse.Namespace, config: Any) -> str:
    """The config's stem, with a short hash when the command line changed anything in it."""
    stem = args.config.stem if args.config else "default"
    if not args.set and not any(getattr(args, option) for option in SHORTHANDS):
        return stem
    told = json.dumps(plain(config), sort_keys=True)
    return f"{stem}_{hashlib.sha256(told.encode()).hexdigest()[:6]}"


def _num_gpus(asked: int | None, elsewhere: bool) -> int:
    # Counting the driver's device files costs nothing; importing torch to ask costs seconds.
    there = len(list(DEVICES.glob("nvidia[0-9]*")))
    if asked is None:
        return min(1, there)
    if asked < 0:
        raise PseError(f"{asked} GPUs cannot be used", "--ngpu", "give 0 for the CPU, or the number of GPUs")
    if elsewhere:
        return asked
    # These drivers have one file for all GPUs: the training itself will tell.
    uncounted = any((DEVICES / name).exists() for name in ("dxg", "kfd"))
    if asked > there and not uncounted:
        fix = "give --ngpu 0 to use the CPU" if there == 0 else f"give --ngpu {there} or less"
        raise EnvironmentFault(f"{asked} GPUs are asked for, {there or 'none'} can be seen", f"--ngpu {asked}", fix)
    return asked
