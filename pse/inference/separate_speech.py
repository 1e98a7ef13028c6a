"""Packages in the place of ESPnet's separators: the call of `SeparateSpeech` in espnet2/bin/enh_inference.py.

Release 202511. What of its arguments is not taken, and what comes out differently, stands in docs/python.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pse.errors import PseError
from pse.inference.builtin import DEFAULTS
from pse.inference.loaded import Audio, load_model

PEAK = 0.9


class SeparateSpeech:
    """A packaged model that is called as ESPnet's: with a batch, for a list of signals.

    model_file: a built-in name, a package directory, or hf:owner/repo@commit, of a model that separates or enhances.
    num_speakers: None lets them be counted. normalize_output_wav: every signal gets a peak of 0.9.
    """

    def __init__(
        self,
        *,
        model_file: str | Path = DEFAULTS["separate"],
        num_speakers: int | None = None,
        device: str = "cpu",
        normalize_output_wav: bool = False,
    ) -> None:
        self.model = load_model(model_file, device)
        if self.model.task == "snr_predictor":
            raise PseError("gives no sound", self.model.name, "take a model that enhances or separates: pse models")
        if self.model.task == "enhance" and num_speakers not in (None, 1):
            raise PseError(f"enhances one speaker, not {num_speakers}", self.model.name, "leave num_speakers out")
        self.num_speakers, self.normalize_output_wav = num_speakers, normalize_output_wav

    @staticmethod
    def from_pretrained(model_tag: str | Path | None = None, **kwargs: Any) -> SeparateSpeech:
        """The model of a tag, which is what `model_file` is; kwargs: as of the class."""
        return SeparateSpeech(**kwargs, **({} if model_tag is None else {"model_file": model_tag}))

    def __call__(self, speech_mix: Audio, fs: int = 8000) -> list[Audio]:
        """Signals [B, T], one for each speaker, of speech_mix: [B, T], or [T] as a batch of one, at fs Hz.

        Where speakers are counted, the list is as long as the most of any example, and others have zeros there.
        Raises PseError for whole numbers, NaN and infinity, and other shapes.
        """
        if getattr(speech_mix, "ndim", None) not in (1, 2):
            shape = list(getattr(speech_mix, "shape", [])) or type(speech_mix).__name__
            raise PseError(f"{shape} was given, [T] or [B, T] is needed", "SeparateSpeech", "mix channels to mono")
        batch = speech_mix[None] if speech_mix.ndim == 1 else speech_mix
        if not len(batch):
            raise PseError("a batch of none was given", "SeparateSpeech", "give [T] or [B, T]")
        found = [self._signals(mix, fs) for mix in batch]
        most = max(len(signals) for signals in found)
        stack = torch.stack if isinstance(batch, Tensor) else np.stack
        signals = [stack([s[n] if n < len(s) else 0 * s[0] for s in found]) for n in range(most)]
        return [_at_peak(s) for s in signals] if self.normalize_output_wav else signals

    def _signals(self, mix: Audio, fs: int) -> Audio:
        """[S, T] of mix: [T]."""
        if self.model.task == "enhance":
            return self.model.enhance(mix, sample_rate=fs)[None]
        return self.model.separate(mix, sample_rate=fs, num_speakers=self.num_speakers)


def _at_peak(signals: Audio) -> Audio:
    """Signals [B, T], each at the peak 0.9; silence stays silence."""
    if not signals.shape[1]:
        return signals
    if isinstance(signals, Tensor):
        peak = signals.abs().amax(1, keepdim=True)
        return PEAK * signals / peak.where(peak > 0, 1)
    peak = np.abs(signals).max(1, keepdims=True)
    return np.float32(PEAK) * signals / np.where(peak > 0, peak, np.float32(1))
