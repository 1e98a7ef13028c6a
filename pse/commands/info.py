"""`pse info conf/models/x.yaml`: how large, how costly and how quick a model is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Describe the model of each YAML file, as a table or as JSON."""
    parser = argparse.ArgumentParser(prog="pse info", description=__doc__)
    parser.add_argument("model", nargs="+", type=Path, help="model YAML, e.g. conf/models/gru_64.yaml")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")
    args = parser.parse_args(argv)

    from pse.config import read_yaml
    from pse.models.base import build
    from pse.models.info import describe, format_table

    for path in args.model:
        about = describe(build(read_yaml(path), str(path)))
        print(json.dumps({"model": str(path)} | about) if args.json else f"{path}\n{format_table(about)}", flush=True)
    return 0
