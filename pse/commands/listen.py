"""`pse listen`: a causal model between microphone and headphones; `pse listen in.wav -o out.wav`: on a file, in the
same blocks.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pse.commands.files import add_model, add_overwrite, need_free
from pse.errors import PseError

TICK_S = 0.1


def main(argv: Sequence[str]) -> int:
    """Listen to a model until Ctrl-C, or to the end of a file."""
    args = _parser().parse_args(argv)
    if args.list_devices:
        from pse.inference.live import devices

        print(devices())
        return 0
    _check(args)

    import torch

    from pse.inference.loaded import load_model

    # The pieces are too small to share.
    torch.set_num_threads(1)
    model = load_model(args.model).network
    if args.input is not None:
        listen_to_file(model, args.input, args.output, args.block_ms)
    else:
        listen_live(model, args.block_ms, args.input_device, args.output_device, args.save)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pse listen", description=__doc__)
    parser.add_argument("input", type=Path, nargs="?", help="an audio file in place of the microphone")
    parser.add_argument("-o", "--output", type=Path, help="with an input: the WAV file for the result")
    add_model(parser, "enhance")
    parser.add_argument("--block_ms", type=float, default=10.0, help="length of a block in ms (default: 10)")
    parser.add_argument("--input_device", type=_device, help="number or name of the microphone")
    parser.add_argument("--output_device", type=_device, help="number or name of the headphones")
    parser.add_argument("--list_devices", action="store_true", help="name the sound devices, and do nothing else")
    parser.add_argument("--save", type=Path, metavar="FILE.wav", help="keep what was heard")
    add_overwrite(parser)
    return parser


def _device(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _check(args: argparse.Namespace) -> None:
    """Raise PseError for what does not go together, before anything is loaded."""
    if not 1.0 <= args.block_ms <= 1000.0:
        raise PseError(f"{args.block_ms:g} ms is no length of a block", "--block_ms", "give 1 to 1000")
    live = [n for n in ("input_device", "output_device", "save") if getattr(args, n) is not None]
    if args.input is None and args.output is not None:
        raise PseError("is for a file that is read", "--output", "name one, or use --save")
    if args.input is not None and live:
        raise PseError("is for the microphone", f"--{live[0]}", "leave it out, or leave the input out")
    if args.input is not None and args.output is None:
        raise PseError("needs a place for its result", args.input, "add -o out.wav")
    target = args.save if args.input is None else args.output
    if target is None:
        return
    if target.suffix.lower() != ".wav":
        raise PseError("is no name of a WAV file", target, "use .wav")
    if args.input is not None and args.input.exists() and target.exists() and args.input.samefile(target):
        raise PseError("would be overwritten by its own result", target, "choose another --output")
    need_free(target, overwrite=args.overwrite)


def listen_to_file(model: Any, source: Path, target: Path, block_ms: float) -> None:
    """What would be heard of a file, in line with it; prints the latency, the load and the speed."""
    from pse.commands.blockwise import convert
    from pse.inference.listening import Listened, Load, sound_stream

    start, load, stream = time.monotonic(), Load(), sound_stream(model)
    print(_latency(model, block_ms), flush=True)
    duration_s = convert(source, target, lambda rate, channels: Listened(stream, rate, channels, load), block_ms)
    factor = duration_s / (time.monotonic() - start)
    print(f"{target}: {load}  ({duration_s:.1f} s, {factor:.3g} times real time)", flush=True)


def listen_live(
    model: Any, block_ms: float, input_device: int | str | None, output_device: int | str | None, save: Path | None
) -> None:
    """Microphone to headphones until Ctrl-C, which ends well. Raises EnvironmentFault when a device goes away."""
    from pse.commands.status import StatusLine, clock
    from pse.inference.live import Live
    from pse.io import blocks

    live, fault = Live(model, block_ms, input_device, output_device), None
    print(f"{live.names[0]} -> {live.names[1]}, {model.sample_rate} Hz; Ctrl-C ends")
    print(_latency(model, 1000 * live.block_s, live.device_s), flush=True)

    def told() -> str:
        return f"{live.load}, {live.num_dropouts} dropouts, {clock(live.load.lasted_s)}"

    kept = blocks.writing_wav(save, model.sample_rate, 1) if save else contextlib.nullcontext(lambda samples: None)
    with kept as write:
        try:
            with live, StatusLine() as line:
                while True:
                    time.sleep(TICK_S)
                    write(live.heard())
                    live.check()
                    line.tell(told())
        except KeyboardInterrupt:
            pass
        except PseError as error:
            # What was heard until then is kept.
            fault = error
        write(live.heard())
    print(told() + (f", kept in {save}" if save else ""), flush=True)
    if fault is not None:
        raise fault


def _latency(model: Any, block_ms: float, device_s: float | None = None) -> str:
    parts = {"model": 1000 * model.algorithmic_latency_samples() / model.sample_rate, "block": block_ms}
    if device_s is not None:
        parts["device"] = 1000 * device_s
    return f"latency {sum(parts.values()):.0f} ms: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in parts.items())
