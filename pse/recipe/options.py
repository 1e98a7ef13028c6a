"""The options that every stage command shares, and the context they add up to."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pse.config import apply_overrides, bind, plain, read_yaml
from pse.errors import PseError
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
}


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
    ngpu: int
    nj: int
    options: tuple[str, ...]

    def repeat(self, stage: str, task: str | None = None) -> str:
        """The command that runs one stage, or one task of it, again."""
        only = ["--only", task] if task else []
        return shlex.join(["./run.sh", "--stage", stage, "--stop_stage", stage, *self.options, *only])


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
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="jobs side by side")
    parser.add_argument("--cmd", choices=("local",), default="local", help="where the jobs run")
    for option, key in SHORTHANDS.items():
        parser.add_argument(f"--{option}", help=f"sets {key}")
    parser.add_argument("--only", help="run this task only")
    parser.add_argument("--force", action="store_true", help="run also what is up to date")
    parser.add_argument("--status", action="store_true", help="print done, stale or missing, and stop")
    parser.add_argument("--dry_run", action="store_true", help="print what would run, and stop")


def context(args: argparse.Namespace, argv: list[str]) -> Context:
    """Read and check the config, and fix the directories.

    The data and dump directories are told apart by corpus, the experiment directory by tag.
    """
    recipe = find("recipe", args.recipe, "--recipe")
    raw = read_yaml(_config_path(args)) if args.config else {}
    overrides = [f"{key}={json.dumps(value)}" for key, value in _shorthands(args)]
    # Models twice: a key inside a model file can be changed, and a model can be replaced by another file.
    raw = apply_overrides(_resolve_models(raw, args.recipe_dir), overrides + args.set)
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
        ngpu=_num_gpus(args.ngpu),
        nj=max(1, args.nj),
        options=tuple(argv),
    )


def _told_by(args: argparse.Namespace) -> str:
    """Where the config comes from, for error lines."""
    return f"{args.config or 'config'}{' with --set' if args.set else ''}"


def _config_path(args: argparse.Namespace) -> Path:
    inside = args.recipe_dir / args.config
    return inside if not args.config.exists() and inside.exists() else args.config


def _shorthands(args: argparse.Namespace) -> list[tuple[str, Any]]:
    given = [(key, getattr(args, option)) for option, key in SHORTHANDS.items()]
    numeric = {"seed", "sample_rate"}
    out = []
    for key, value in given:
        if value is None or value == "":
            continue
        if key in numeric:
            try:
                value = int(str(value).lower().removesuffix("hz").replace("k", "000"))
            except ValueError as error:
                raise PseError(f"{value!r} is not a whole number", f"--{key}") from error
        out.append((key, value))
    return out


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
    if not args.set and not _shorthands(args):
        return stem
    told = json.dumps(plain(config), sort_keys=True)
    return f"{stem}_{hashlib.sha256(told.encode()).hexdigest()[:6]}"


def _num_gpus(asked: int | None) -> int:
    if asked is not None and asked >= 0:
        return asked
    # Looking for the driver's device file costs nothing; importing torch to ask costs seconds.
    return 1 if Path("/dev/nvidia0").exists() else 0
