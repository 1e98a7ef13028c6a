"""Run one of ESPnet's own programs beside what `tools/install_espnet.sh` installs.

    python tools/espnet_program.py enh_train --config tools/espnet_enh.yaml ...      ESPnet's EnhancementTask
    python tools/espnet_program.py enh_inference --train_config ... --model_file ...

ESPnet has one trainer for all its tasks, which imports all of them: text, speech synthesis and recognition,
with packages such as sentencepiece. Enhancement calls none of that. Here empty modules stand in for it, so
that the imports succeed; whatever is taken from one of them fails, and says what it was, when it is called.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

from pse.errors import EnvironmentFault, PseError

PROGRAMS = ("enh_train", "enh_inference")
# Packages and parts of ESPnet that are imported for enhancement, and not called. What each is there for:
STAND_INS = {
    "torchaudio": "resampling to 48 kHz inside a model",
    "h5py": "data of the type hdf5",
    "ci_sdr": "the criterion ci_sdr",
    "espnet2.text": "text of recognition and synthesis",
    "espnet2.gan_tts": "speech synthesis",
    "espnet2.tasks.enh_s2t": "enhancement in front of recognition",
}


class StandIn(types.ModuleType):
    """An empty module; every name in it is a class that cannot be instantiated."""

    def __getattr__(self, name: str) -> Any:
        # A module without __version__, __file__ and the like is taken for no real one.
        if name.startswith("__"):
            raise AttributeError(name)
        whole = f"{self.__name__}.{name}"

        def refuse(*_: Any, **__: Any) -> None:
            use = next(use for root, use in STAND_INS.items() if whole.startswith(f"{root}."))
            raise EnvironmentFault(f"{whole} is not there: {use}", "espnet", "see docs/espnet.md")

        return type(name, (), {"__new__": refuse, "__module__": self.__name__})


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for every name of STAND_INS and below."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """The empty module of this name, if it is one of these."""
        below = any(name == root or name.startswith(f"{root}.") for root in STAND_INS)
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if below else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> StandIn:
        """The empty module."""
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def main(argv: Sequence[str]) -> None:
    """Run ESPnet's program argv[0] with the other arguments. Raises PseError, and whatever ESPnet raises."""
    if not argv or argv[0] not in PROGRAMS:
        raise PseError("names no program", "espnet_program", f"the first word is one of {', '.join(PROGRAMS)}")
    sys.meta_path.insert(0, StandIns())
    try:
        program = importlib.import_module(f"espnet2.bin.{argv[0]}")
    except ImportError as error:
        fix = "install ESPnet with tools/install_espnet.sh"
        raise EnvironmentFault(f"ESPnet's {argv[0]} cannot be imported ({error})", "espnet", fix) from error
    program.main(cmd=list(argv[1:]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PseError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code)
