"""ESPnet's encoder, separator and decoder as a model, so that every recipe can train them.

ESPnet (github.com/espnet/espnet, release 202511) is imported when such a model is built, and only then:
`tools/install_espnet.sh` installs it. docs/espnet.md says which separators there are.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.config import bind
from pse.errors import EnvironmentFault, PseError
from pse.models.base import Model, Normalize, Output, measure_level, require_positive

Encoder = Literal["conv", "stft"]
Separator = Literal["tcn", "rnn", "dprnn", "conformer", "dpcl", "dan", "tfgridnetv3"]

# What a name stands for: module below espnet2.enh, class.
CLASSES = {
    ("encoder", "conv"): ("encoder.conv_encoder", "ConvEncoder"),
    ("encoder", "stft"): ("encoder.stft_encoder", "STFTEncoder"),
    ("decoder", "conv"): ("decoder.conv_decoder", "ConvDecoder"),
    ("decoder", "stft"): ("decoder.stft_decoder", "STFTDecoder"),
    ("separator", "tcn"): ("separator.tcn_separator", "TCNSeparator"),
    ("separator", "rnn"): ("separator.rnn_separator", "RNNSeparator"),
    ("separator", "dprnn"): ("separator.dprnn_separator", "DPRNNSeparator"),
    ("separator", "conformer"): ("separator.conformer_separator", "ConformerSeparator"),
    ("separator", "dpcl"): ("separator.dpcl_separator", "DPCLSeparator"),
    ("separator", "dan"): ("separator.dan_separator", "DANSeparator"),
    ("separator", "tfgridnetv3"): ("separator.tfgridnetv3_separator", "TFGridNetV3"),
}
# Separators that place every time-frequency bin in a space and leave the clustering to others.
EMBEDDING = ("dpcl", "dan")
# Keys of ESPnet that follow from ours, and values without which the chain would not fit together.
OURS = {
    "input_dim": "it follows from the encoder",
    "num_spk": "write num_sources",
    "n_srcs": "write num_sources",
    "default_fs": "write sample_rate",
    "predict_noise": "a recipe has no use for an estimate of the noise",
}
FIXED = {"center": True, "onesided": True, "use_builtin_complex": True}
INSTALL = "install ESPnet with tools/install_espnet.sh"


class ESPnetModel(Model):
    """encoder -> separator -> decoder of ESPnet, one waveform per source; `dpcl` and `dan` give embeddings.

    encoder_conf, separator_conf, decoder_conf: arguments of ESPnet's constructors. The decoder has those of
    the encoder, so decoder_conf may be left out. Weights have the names of ESPnet's own enhancement model.
    Raises ValueError for what ESPnet does not know or refuses, EnvironmentFault when it is not installed.
    """

    def __init__(
        self,
        separator: Separator,
        encoder: Encoder = "conv",
        num_sources: int = 1,
        encoder_conf: dict[str, Any] | None = None,
        separator_conf: dict[str, Any] | None = None,
        decoder_conf: dict[str, Any] | None = None,
        sample_rate: int = 16000,
        normalize: Normalize = "rms",
    ) -> None:
        super().__init__(sample_rate, normalize)
        require_positive(num_sources=num_sources)
        self.num_sources, self.kinds = num_sources, (encoder, separator)
        self.settings = _checked("separator_conf", separator_conf)
        front = _checked("encoder_conf", encoder_conf)
        if encoder == "stft":
            front = {"default_fs": sample_rate, **front}
        self.encoder = _make("encoder", encoder, front)
        self.separator = _make("separator", separator, self._sources(separator) | self.settings)
        self.decoder = _make("decoder", encoder, _decoder_settings(front, decoder_conf))
        self._check_chain()

    def _sources(self, separator: str) -> dict[str, int]:
        name = "n_srcs" if separator == "tfgridnetv3" else "num_spk"
        return {"input_dim": self.encoder.output_dim, name: self.num_sources}

    def _check_chain(self) -> None:
        """Refuse parts that cannot follow one another. Raises ValueError."""
        (encoder, separator), (length, hop) = self.kinds, self._window
        if not 1 <= hop <= (length // 2 if encoder == "stft" else length):
            raise ValueError(f"encoder_conf: a hop of {hop} leaves gaps between windows of {length} samples")
        if separator == "tfgridnetv3" and encoder != "stft":
            raise ValueError("tfgridnetv3 works on spectra; set encoder: stft")
        if encoder == "stft" and self.settings.get("masking") is False:
            raise ValueError("separator_conf: masking: false makes no spectrum; set encoder: conv")
        if separator in EMBEDDING and self.num_sources < 2:
            raise ValueError(f"{separator} tells sources apart; set num_sources to 2 or more")

    @property
    def _window(self) -> tuple[int, int]:
        """Length and hop of the encoder's window, in samples."""
        if self.kinds[0] == "conv":
            return self.encoder.kernel_size, self.encoder.stride
        return self.encoder.win_length, self.encoder.hop_length

    @property
    def causal(self) -> bool:
        """True where it can be proved: one-directional `rnn`, and `tcn` with `causal` and a norm of each frame."""
        if self.normalize != "none" or self.kinds[1] not in ("rnn", "tcn"):
            return False
        if self.kinds[1] == "rnn":
            return not self.settings.get("rnn_type", "blstm").startswith("b")
        return bool(self.settings.get("causal", False)) and self.settings.get("norm_type", "gLN") == "cLN"

    def receptive_field_samples(self) -> int | None:
        """Span of the convolutions of `tcn`; None for the others: recurrence and attention see everything."""
        if self.kinds[1] != "tcn":
            return None
        length, hop = self._window
        # The first value of the transform's window is zero.
        length -= self.kinds[0] == "stft"
        return (self.separator.tcn.receptive_field + math.ceil(length / hop) - 2) * hop + length

    def algorithmic_latency_samples(self) -> int | None:
        """One window of the encoder when causal."""
        return self._window[0] if self.causal else None

    def process(self, mix: Tensor) -> Output:
        """Estimates wavs [B, S, T] and masks [B, S, K, F] of mix: [B, T], or embeddings [B, K, F, D]."""
        whole = self._to_whole_frames(mix)
        if self.kinds[1] in EMBEDDING:
            return Output(embeddings=self._embed(whole)[1].transpose(1, 2))
        features, num_frames = self._encode(whole)
        # tfgridnetv3 makes complex numbers, of which torch knows none in bfloat16.
        whole_precision = torch.autocast(mix.device.type, enabled=False)
        with whole_precision if self.kinds[1] == "tfgridnetv3" else contextlib.nullcontext():
            estimates, _, others = self.separator(features, num_frames)
        for layer in self.separator.modules():
            # ESPnet keeps the last attention for plots, and with it the graph of the whole forward pass.
            if hasattr(layer, "attn"):
                layer.attn = None
        masks = None
        if self.settings.get("masking", True) and "mask_spk1" in others:
            given = torch.stack([others[f"mask_spk{s + 1}"] for s in range(self.num_sources)], 1).mT
            masks = given[..., : self._num_frames(mix.shape[1])].to(mix.dtype)
        return Output(wavs=self._decode(estimates, whole)[..., : mix.shape[1]], masks=masks)

    def attract(self, mix: Tensor, references: Tensor) -> Output:
        """What `dan` makes in training, when the sources are known: wavs, masks and embeddings.

        mix: [B, T], references: [B, S, T]. A source's attractor is the mean embedding of the bins that
        it dominates, a mask the softmax over the attractors (Chen, Luo & Mesgarani, ICASSP 2017, eq. 2-4).
        Raises PseError for another separator or another number of sources.
        """
        if self.kinds[1] != "dan" or references.shape[1] != self.num_sources:
            what = f"{self.kinds[1]} of {self.num_sources} sources has no attractors of {references.shape[1]}"
            raise PseError(what, "espnet", "take separator: dan, and as many references as sources")
        level = measure_level(mix, self.normalize)
        whole = self._to_whole_frames(mix / level)
        features, embeddings = self._embed(whole)
        spectra = [self._encode(self._to_whole_frames(r / level))[0].abs() for r in references.unbind(1)]
        member = functional.one_hot(torch.stack(spectra).argmax(0), self.num_sources).to(embeddings.dtype)
        count = member.sum((1, 2))[..., None] + 1e-8
        attractors = torch.einsum("bfkd,bfks->bsd", embeddings, member) / count
        masks = torch.einsum("bfkd,bsd->bsfk", embeddings, attractors).softmax(1)
        wavs = self._decode([features * m for m in masks.unbind(1)], whole)[..., : mix.shape[1]]
        return Output(wavs=wavs * level[:, None], masks=masks.mT, embeddings=embeddings.transpose(1, 2))

    def _to_whole_frames(self, mix: Tensor) -> Tensor:
        """mix: [B, T] and as many zeros as make it a whole number of frames.

        What follows the last whole frame ESPnet leaves silent, or divides by a window that has faded out.
        Embeddings of a transform are spared: they stand beside labels of F = 1 + T // hop frames.
        """
        (length, hop), num_samples = self._window, mix.shape[1]
        if self.kinds[0] == "conv":
            return functional.pad(mix, (0, max(length - num_samples, -(num_samples - length) % hop)))
        return mix if self.kinds[1] in EMBEDDING else functional.pad(mix, (0, -num_samples % hop))

    def _encode(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """ESPnet's features [B, F, K] of mix: [B, T], and the number of frames of each, [B]."""
        too_short = self.encoder.n_fft // 2 + 1 - mix.shape[1] if self.kinds[0] == "stft" else 0
        padded = functional.pad(mix, (0, max(0, too_short)))
        features, num_frames = self.encoder(padded, torch.full((len(mix),), padded.shape[1], device=mix.device))
        if too_short <= 0:
            return features, num_frames
        frames = self._num_frames(mix.shape[1])
        return features[:, :frames], num_frames.clamp_max(frames)

    def _num_frames(self, num_samples: int) -> int | None:
        """F of a transform with a frame on every multiple of the hop; None, so all there are, for `conv`."""
        return 1 + num_samples // self._window[1] if self.kinds[0] == "stft" else None

    def _embed(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F, K] and embeddings [B, F, K, D], without the clustering that ESPnet does after them."""
        net = self.separator
        features, num_frames = self._encode(mix)
        embeddings = net.nonlinear(net.linear(net.blstm(features.abs(), num_frames)[0]))
        return features, embeddings.unflatten(2, (features.shape[2], net.D)).to(mix.dtype)

    def _decode(self, estimates: Sequence[Tensor], mix: Tensor) -> Tensor:
        """wavs [B, S, T] of the features [B, F, K] of each source, as long as mix: [B, T]."""
        lengths = torch.full((len(mix),), mix.shape[1], device=mix.device)
        return torch.stack([self.decoder(e, lengths)[0] for e in estimates], 1).to(mix.dtype)


def _checked(place: str, conf: dict[str, Any] | None) -> dict[str, Any]:
    """A mapping for ESPnet without what our keys say. Raises ValueError naming what cannot stand there."""
    # ESPnet's own configs write `win_length: null` for what a constructor finds out itself.
    given = {k: v for k, v in (conf or {}).items() if v is not None}
    for key, value in given.items():
        if key in OURS:
            raise ValueError(f"{place}: {key} cannot stand here; {OURS[key]}")
        if value is not FIXED.get(key, value):
            raise ValueError(f"{place}: {key} can only be {str(FIXED[key]).lower()} here; leave it out")
    return given


def _decoder_settings(front: dict[str, Any], conf: dict[str, Any] | None) -> dict[str, Any]:
    """The encoder's settings. Raises ValueError where those given for the decoder are others."""
    for key, value in _checked("decoder_conf", conf).items():
        if key not in front or front[key] != value:
            raise ValueError(f"decoder_conf: {key}: {value!r} does not stand in encoder_conf; leave decoder_conf out")
    return {k: v for k, v in front.items() if k != "use_builtin_complex"}


def _make(part: str, kind: str, settings: dict[str, Any]) -> nn.Module:
    """ESPnet's part of this kind. Raises ValueError for settings that it does not know or refuses."""
    place = f"{part}_conf"
    try:
        return bind(find_class(part, kind), settings, place)
    except EnvironmentFault:
        raise
    except Exception as error:  # ESPnet refuses in many ways: assertions, lookups, its own type checks.
        told = str(error) if isinstance(error, PseError) else f"{place}: ESPnet refuses this: {error!r}"
        raise ValueError(told) from error


def find_class(part: str, kind: str) -> type[nn.Module]:
    """ESPnet's class, imported now. Raises EnvironmentFault with the remedy."""
    module, name = CLASSES[part, kind]
    try:
        # Some modules print and warn about optional packages while they are imported.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(importlib.import_module(f"espnet2.enh.{module}"), name)
    except ImportError as error:
        raise EnvironmentFault(f"ESPnet's {part} {kind} cannot be imported ({error})", "espnet", INSTALL) from error


PLUGIN = ESPnetModel
