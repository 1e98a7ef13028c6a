"""`pse listen`: a causal model between microphone and headphones; `pse listen in.wav -o out.wav`: on a file, in the
same blocks.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pse.commands.files import add_model, add_overwrite, need_free
from pse.errors import PseError
from pse.inference.builtin import DEFAULTS

TICK_S = 0.1
# What models do that are not listened to.
OTHER_TASKS = {"separate": "separates speakers", "snr_predictor": "tells frame SNRs", "voice": "tells voices"}


def main(argv: Sequence[str]) -> int:
    """Listen to a model until Ctrl-C, or to the end of a file."""
    args = _parser().parse_args(argv)
    if args.list_devices:
        from pse.inference.live import devices

        print(devices())
        return 0
    listen(
        args.input, args.output, model=args.model, block_ms=args.block_ms, input_device=args.input_device,
        output_device=args.output_device, save=args.save, overwrite=args.overwrite,
    )  # fmt: skip
    return 0


def listen(
    input: str | Path | None = None, output: str | Path | None = None, *, model: str | Path = DEFAULTS["enhance"],
    block_ms: float = 10.0, input_device: int | str | None = None, output_device: int | str | None = None,
    save: str | Path | None = None, overwrite: bool = False,
) -> None:  # fmt: skip
    """Hear a causal model between microphone and headphones until Ctrl-C; of an input file, write what would be heard.

    model: built-in name, package directory or hub address. block_ms: 1 to 1000. input_device, output_device: as
    `pse listen --list_devices` names them. save: a WAV file for what was heard. Prints latency and load. Raises
    PseError for a model that is not causal and for options that do not go together, EnvironmentFault when a device
    goes away.
    """
    source, target, kept = (None if p is None else Path(p) for p in (input, output, save))
    _check(source, target, kept, block_ms, {"input_device": input_device, "output_device": output_device}, overwrite)

    import torch

    from pse.inference.loaded import load_model

    loaded, threads = load_model(model), torch.get_num_threads()
    # Of a causal model of several sources the first one is heard.
    if loaded.task != "enhance" and not (loaded.num_sources and loaded.causal):
        fix = f"take one that enhances, e.g. {DEFAULTS['enhance']} (pse models)"
        raise PseError(OTHER_TASKS[loaded.task], loaded.name, fix)
    network = loaded.network
    # The pieces are too small to share.
    torch.set_num_threads(1)
    try:
        if source is not None and target is not None:
            listen_to_file(network, source, target, block_ms)
        else:
            listen_live(network, block_ms, input_device, output_device, kept)
    finally:
        torch.set_num_threads(threads)


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


def _check(
    source: Path | None, target: Path | None, save: Path | None, block_ms: float, devices: Mapping[str, Any],
    overwrite: bool,
) -> None:  # fmt: skip
    """Raise PseError for what does not go together, before anything is loaded."""
    if not 1.0 <= block_ms <= 1000.0:
        raise PseError(f"{block_ms:g} ms is no length of a block", "--block_ms", "give 1 to 1000")
    live = [n for n, given in {**devices, "save": save}.items() if given is not None]
    if source is None and target is not None:
        raise PseError("is for a file that is read", "--output", "name one, or use --save")
    if source is not None and live:
        raise PseError("is for the microphone", f"--{live[0]}", "leave it out, or leave the input out")
    if source is not None and target is None:
        raise PseError("needs a place for its result", source, "add -o out.wav")
    written = save if source is None else target
    if written is None:
        return
    if written.suffix.lower() != ".wav":
        raise PseError("is no name of a WAV file", written, "use .wav")
    if source is not None and source.exists() and written.exists() and source.samefile(written):
        raise PseError("would be overwritten by its own result", written, "choose another --output")
    need_free(written, overwrite=overwrite)


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
