"""`pse <verb>`: one thin entry; every verb imports only what it needs."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pse.errors import PseError, from_os_error

# verb: (module, what it does). The module provides `main(argv) -> exit code`.
VERBS = {
    "doctor": ("pse.commands.doctor", "what is installed, what is missing, and the remedy"),
    "models": ("pse.commands.models", "the built-in models, or the card of one"),
    "info": ("pse.commands.info", "parameters, MACs, receptive field and latency of a model YAML"),
    "config": ("pse.commands.explain", "every config key of a recipe with its default"),
    "corpus": ("pse.commands.stages:corpus", "stage: find, download or make the corpora"),
    "features": ("pse.commands.stages:features", "stage: audio cache, levels, frame-SNR labels, fixed mixtures"),
    "train": ("pse.commands.stages:train", "stage: train <stage name>"),
    "infer": ("pse.commands.stages:infer", "stage: enhance all test mixtures with every trained system"),
    "score": ("pse.commands.stages:score", "stage: SI-SDR, SDR, PESQ and eSTOI per utterance"),
    "report": ("pse.commands.report", "a page to hear and compare recordings; stage: RESULTS.md, plots, its page"),
    "pack": ("pse.commands.stages:pack", "stage: model directories with card and checksums"),
    "results": ("pse.commands.results", "put the results of several experiments into one RESULTS.md"),
    "enhance": ("pse.commands.enhance", "enhance a recording, or a directory of them"),
    "listen": ("pse.commands.listen", "hear a causal model live, or a file in blocks, with its latency and load"),
    "personalize": ("pse.commands.personalize", "a personal model out of a person's own noisy recordings"),
    "export": ("pse.commands.export", "write a packed model as an ONNX or TorchScript file"),
    "wsj0mix": ("pse.commands.wsj0mix", "write WSJ0-2mix and -3mix as WAV files, without MATLAB"),
    "separate": ("pse.commands.separate", "separate the speakers of recordings"),
}


def usage() -> str:
    """The list of verbs."""
    lines = [f"  {verb:<11} {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(["usage: pse <verb> [options]   (pse <verb> --help for its options)", "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    if args[0] == "--version":
        import pse

        print(f"pse {pse.__version__}")
        return 0
    verb, rest = args[0], args[1:]
    return guarded(lambda: _run(verb, rest))


def _run(verb: str, rest: list[str]) -> int:
    from difflib import get_close_matches

    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, n=1)
        raise PseError(f"no verb is named {verb!r}", "pse", f"did you mean {near[0]!r}?" if near else "see pse --help")
    module, _, function = VERBS[verb][0].partition(":")
    return getattr(importlib.import_module(module), function or "main")(rest)


def guarded(body: Callable[[], int]) -> int:
    """Run `body`; a fault of the user's input is one line, a bug leaves its traceback in a file."""
    try:
        return body()
    except PseError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr, flush=True)
        return 130
    except SystemExit as stop:
        # argparse ends with 2, which here means that a stage is missing.
        return 1 if stop.code == 2 else int(stop.code or 0)
    except BrokenPipeError:
        # The reader of our output went away (`pse ... | head`): nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"error: {from_os_error(error)}", file=sys.stderr, flush=True)
        return 1
    except ModuleNotFoundError as error:
        if str(error.name).startswith("pse"):
            return _bug(error)
        print(f"error: the package {error.name!r} is not installed; run make setup", file=sys.stderr, flush=True)
        return 3
    except Exception as error:
        return _bug(error)


def _bug(error: Exception) -> int:
    where = Path("pse_bug.log")
    try:
        where.write_text(traceback.format_exc(), encoding="utf-8")
        told = f"the traceback is in {where.resolve()}"
    except OSError:
        told = traceback.format_exc()
    line = f"error: a bug in pse: {type(error).__name__}: {error}; {told}; please report it"
    print(line, file=sys.stderr, flush=True)
    return 4


if __name__ == "__main__":
    sys.exit(main())
