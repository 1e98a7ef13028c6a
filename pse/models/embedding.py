"""Networks that give every time-frequency bin, or patch of bins, an embedding: what the deep clustering ones share.

Hershey, Chen, Le Roux & Watanabe, "Deep clustering", ICASSP 2016 (1508.04306); the mask head is that of
Chimera++, Wang, Le Roux & Hershey, "Alternative objective functions for deep clustering", ICASSP 2018.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.dsp.stft import STFT
from pse.errors import PseError
from pse.models.base import Model, Normalize, Output, require_positive
from pse.models.nodes import Shape, grid
from pse.models.unit_vectors import unit_vectors

Activation = Literal["tanh", "logistic", "linear"]
# Of magnitudes of a signal of level 1: 80 dB below those of noise of that level.
LOG_FLOOR = 1e-3


class EmbeddingModel(Model):
    """Log magnitude -> hidden states (a subclass) -> unit vectors of D numbers for each of Kn x Fn nodes.

    A node is a patch of node_bins (0: all) x node_frames bins, by default a single one; over its frames the
    hidden states are averaged. embeddings: [B, Kn, Fn, D], with Kn = ceil(K / node_bins) and Fn = ceil(F /
    node_frames); none with `embedding_size` 0. With `num_masks` S the hidden states also give masks of bins
    [B, S, K, F] that sum to one, and the masked mixtures as wavs [B, S, T]. In training the normalised
    log magnitudes get Gaussian noise of standard deviation `input_noise`. `mean` and `deviation` [K] normalise
    them; `set_statistics` fills these from training data. Square-root Hann window, n_fft and hop in samples.
    `head` makes `head_size` numbers of an embedding for objectives that predict with it; it is for training alone.
    Raises ValueError for sizes that do not fit.
    """

    # Nodes of a frame that are no patches of bins but have masks of their own, see slot_encoder: here none.
    slots = 0

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
        node_bins: int = 1,
        node_frames: int = 1,
        head_size: int = 0,
    ) -> None:
        super().__init__(sample_rate, normalize)
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {activation!r}")
        if num_masks < 0 or num_masks == 1:
            raise ValueError(f"num_masks must be 0 or at least 2, got {num_masks}")
        if embedding_size < 0 or not embedding_size + num_masks:
            raise ValueError(f"embedding_size must be positive, or 0 with num_masks, got {embedding_size}")
        if head_size < 0 or (head_size and not embedding_size):
            raise ValueError(f"head_size must be at least 0, and 0 without embeddings, got {head_size}")
        if not 0 <= input_noise < float("inf"):
            raise ValueError(f"input_noise must not be negative, got {input_noise}")
        require_positive(node_frames=node_frames)
        self.transform = STFT(n_fft, hop, "sqrt_hann")
        self.activation, self.num_masks, self.input_noise = activation, num_masks, input_noise
        bins = self.transform.num_bins
        if not 0 <= node_bins <= bins:
            raise ValueError(f"node_bins must be from 0 (all) to {bins}, got {node_bins}")
        self.node_shape: Shape = (node_bins or bins, node_frames)
        num_bands, _ = grid(self.node_shape, bins, 1)
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("deviation", torch.ones(bins))
        self.embedding_size = embedding_size
        self.embed = nn.Linear(width, num_bands * embedding_size) if embedding_size else None
        self.mask = nn.Linear(width, bins * num_masks) if num_masks else None
        self.head_size = head_size
        self.head = nn.Linear(embedding_size, head_size) if head_size else None

    @abstractmethod
    def encode(self, feature: Tensor, memory: dict[Any, Any] | None = None) -> Tensor:
        """Hidden states [B, F, W] of normalised log magnitudes [B, F, K].

        memory: of a stream, empty at first; a causal network keeps in it what the next frames need.
        """

    @property
    def span_samples(self) -> int:
        """Samples of one STFT window, or of those of a node's frames."""
        return self.transform.n_fft + (self.node_shape[1] - 1) * self.transform.hop

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Take mean and deviation [K] of the training set's log magnitudes."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def log_magnitude(self, spectrum: Tensor) -> Tensor:
        """Log magnitudes [B, F, K] of a spectrum [B, K, F] of level 1, with a floor."""
        return (spectrum.abs() / self.transform.noise_level + LOG_FLOOR).log().mT

    def embeddings(self, spectrum: Tensor, memory: dict[Any, Any]) -> Tensor:
        """Embeddings [B, Kn, F, D] of the next frames [B, K, F] of a stream's spectrum.

        Raises PseError from a network whose nodes have several frames, of which a stream may hold a part.
        """
        if self.node_shape[1] > 1:
            raise PseError(f"its nodes have {self.node_shape[1]} frames", "stream", "set node_frames: 1")
        feature = (self.log_magnitude(spectrum) - self.mean) / self.deviation
        return self.vectors(self.encode(feature, memory))

    def vectors(self, hidden: Tensor) -> Tensor:
        """Embeddings [B, Kn, Fn, D] of hidden states [B, F, W]; the last node averages the frames it has."""
        if self.node_shape[1] > 1:
            hidden = functional.avg_pool1d(hidden.mT, self.node_shape[1], ceil_mode=True).mT
        return unit_vectors(self.embed(hidden), self.embedding_size, self.activation).transpose(1, 2)

    def masks(self, hidden: Tensor) -> Tensor:
        """Masks [B, S, K, F] of hidden states [B, F, W]."""
        return self.mask(hidden).float().unflatten(2, (self.num_masks, -1)).softmax(2).permute(0, 2, 3, 1)

    def process(self, mix: Tensor) -> Output:
        """Embeddings, and masks and estimates where there is a head for them, of mix: [B, T]."""
        spectrum = self.transform.stft(mix)
        return self.separate(spectrum, mix.shape[1])

    def hidden(self, spectrum: Tensor) -> Tensor:
        """Hidden states [B, F, W] of a spectrum [B, K, F]."""
        feature = (self.log_magnitude(spectrum) - self.mean) / self.deviation
        if self.training and self.input_noise:
            feature = feature + self.input_noise * torch.randn_like(feature)
        return self.encode(feature)

    def separate(self, spectrum: Tensor, num_samples: int) -> Output:
        """What `process` gives, of a spectrum [B, K, F]."""
        hidden, out = self.hidden(spectrum), Output()
        if self.embed is not None:
            out.embeddings = self.vectors(hidden)
        if self.mask is not None:
            out.masks = self.masks(hidden)
            sources = (spectrum[:, None] * out.masks).flatten(0, 1)
            out.wavs = self.transform.istft(sources, num_samples).unflatten(0, (len(out.masks), -1))
        return out
