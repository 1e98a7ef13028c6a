"""Networks that give every time-frequency bin an embedding: what the deep clustering ones share.

Hershey, Chen, Le Roux & Watanabe, "Deep clustering", ICASSP 2016 (1508.04306); the mask head is that of
Chimera++, Wang, Le Roux & Hershey, "Alternative objective functions for deep clustering", ICASSP 2018.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pse.dsp.stft import STFT
from pse.models.base import Model, Normalize, Output
from pse.models.unit_vectors import unit_vectors

Activation = Literal["tanh", "logistic", "linear"]
# Of magnitudes of a signal of level 1: 80 dB below those of noise of that level.
LOG_FLOOR = 1e-3


class EmbeddingModel(Model):
    """Log magnitude -> hidden states (a subclass) -> unit vectors of D numbers for each of K x F bins.

    embeddings: [B, K, F, D]; none with `embedding_size` 0. With `num_masks` S the hidden states also give
    masks [B, S, K, F] that sum to one, and the masked mixtures as wavs [B, S, T]. In training the normalised
    log magnitudes get Gaussian noise of standard deviation `input_noise`. `mean` and `deviation` [K] normalise
    them; `set_statistics` fills these from training data. Square-root Hann window, n_fft and hop in samples.
    Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        width: int,
        embedding_size: int,
        activation: Activation,
        num_masks: int,
        input_noise: float,
        n_fft: int,
        hop: int,
        sample_rate: int,
        normalize: Normalize,
    ) -> None:
        super().__init__(sample_rate, normalize)
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {activation!r}")
        if num_masks < 0 or num_masks == 1:
            raise ValueError(f"num_masks must be 0 or at least 2, got {num_masks}")
        if embedding_size < 0 or not embedding_size + num_masks:
            raise ValueError(f"embedding_size must be positive, or 0 with num_masks, got {embedding_size}")
        if not 0 <= input_noise < float("inf"):
            raise ValueError(f"input_noise must not be negative, got {input_noise}")
        self.transform = STFT(n_fft, hop, "sqrt_hann")
        self.activation, self.num_masks, self.input_noise = activation, num_masks, input_noise
        bins = self.transform.num_bins
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("deviation", torch.ones(bins))
        self.embed = nn.Linear(width, bins * embedding_size) if embedding_size else None
        self.mask = nn.Linear(width, bins * num_masks) if num_masks else None

    @abstractmethod
    def encode(self, feature: Tensor, memory: dict[Any, Any] | None = None) -> Tensor:
        """Hidden states [B, F, W] of normalised log magnitudes [B, F, K].

        memory: of a stream, empty at first; a causal network keeps in it what the next frames need.
        """

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Take mean and deviation [K] of the training set's log magnitudes."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def log_magnitude(self, spectrum: Tensor) -> Tensor:
        """Log magnitudes [B, F, K] of a spectrum [B, K, F] of level 1, with a floor."""
        return (spectrum.abs() / self.transform.noise_level + LOG_FLOOR).log().mT

    def embeddings(self, spectrum: Tensor, memory: dict[Any, Any]) -> Tensor:
        """Embeddings [B, K, F, D] of the next frames [B, K, F] of a stream's spectrum."""
        feature = (self.log_magnitude(spectrum) - self.mean) / self.deviation
        return self._vectors(self.encode(feature, memory))

    def _vectors(self, hidden: Tensor) -> Tensor:
        values = self.embed(hidden)
        return unit_vectors(values, values.shape[2] // self.transform.num_bins, self.activation).transpose(1, 2)

    def process(self, mix: Tensor) -> Output:
        """Embeddings, and masks and estimates where there is a head for them, of mix: [B, T]."""
        spectrum = self.transform.stft(mix)
        return self.separate(spectrum, mix.shape[1])

    def separate(self, spectrum: Tensor, num_samples: int) -> Output:
        """The same of a spectrum [B, K, F]."""
        feature = (self.log_magnitude(spectrum) - self.mean) / self.deviation
        if self.training and self.input_noise:
            feature = feature + self.input_noise * torch.randn_like(feature)
        hidden, out = self.encode(feature), Output()
        if self.embed is not None:
            out.embeddings = self._vectors(hidden)
        if self.mask is not None:
            masks = self.mask(hidden).float().unflatten(2, (self.num_masks, -1)).softmax(2).permute(0, 2, 3, 1)
            sources = (spectrum[:, None] * masks).flatten(0, 1)
            out.masks = masks
            out.wavs = self.transform.istft(sources, num_samples).unflatten(0, (len(masks), -1))
        return out
