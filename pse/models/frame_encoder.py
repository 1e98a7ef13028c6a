"""An encoder of short frames: convolutions that turn 256 samples into one vector.

Ochieng, "Speech separation based on contrastive learning and deep modularization" (2305.10652): frames of 256
samples every 64, six convolutional layers, a contrastive loss on a projection. The paper's kernels are not public. Here
they are those of the first six layers of wav2vec 2.0 (Baevski et al., NeurIPS 2020, 2006.11477), which leave
50, 24, 11, 5, 2 and 1 steps of 256 samples: a reading, not the paper's own statement.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pse.errors import PseError
from pse.models.base import Normalize, Output, measure_level, require_positive
from pse.models.embedding import EmbeddingModel
from pse.models.layers import make_norm
from pse.models.unit_vectors import unit_vectors

Input = Literal["raw", "log_magnitude"]
# Encoded at a time: the first layer then has 26 MB however long the recording is, and takes 1.6 times less long
# than one of 1024 frames (one thread of a processor).
FRAMES_PER_PIECE = 256
# Of norms within a frame: what a frame of zeros may be amplified by, which the norms' default leaves at 10000.
EPS = 1e-5


def layer_sizes(length: int, num_layers: int) -> list[tuple[int, int]]:
    """Kernel and stride of each layer on a frame of `length` steps.

    wav2vec 2.0's: 10 and 5, four times 3 and 2, from then on 2 and 2; but never longer than what is left, so that
    layers on a single step are pointwise.
    """
    sizes = []
    for number in range(num_layers):
        kernel, stride = (10, 5) if number == 0 else (3, 2) if number < 5 else (2, 2)
        kernel = min(kernel, length)
        stride = min(kernel, stride)
        sizes.append((kernel, stride))
        length = (length - kernel) // stride + 1
    return sizes


class FrameEncoder(EmbeddingModel):
    """Frames -> num_layers of convolution, norm and GELU -> mean over the steps left -> one unit vector a frame.

    embeddings: [B, 1, F, D], one node a frame, for the frames of the STFT (n_fft `frame`, samples): centred on
    multiples of the hop, the signal reflected at its ends. Every frame is encoded on its own, its norms are over
    its own channels and steps. Kernels follow `layer_sizes` for any num_layers and frame. A linear layer makes D
    numbers of the last layer's `channels`; `project` is for the contrastive loss alone and is not used afterwards.
    With its defaults it has 3,783,040 weights.

    input: raw, the samples; or log_magnitude, the columns of the log spectrum with `context` columns on each side.
    Those go through the same layers, which then move over frequency with the neighbours as channels: a comb of
    harmonics is the same pattern wherever it begins, which an MLP would have to learn for every pitch, and both
    inputs are compared with the same depth and width. Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        num_layers: int = 6,
        channels: int = 512,
        embedding_size: int = 128,
        projection_size: int = 128,
        input: Input = "raw",
        context: int = 0,
        frame: int = 256,
        hop: int = 64,
        sample_rate: int = 8000,
        normalize: Normalize = "rms",
        head_size: int = 0,
    ) -> None:
        super().__init__(
            channels, embedding_size, "linear", 0, 0.0, frame, hop, sample_rate, normalize, node_bins=0,
            head_size=head_size,
        )  # fmt: skip
        require_positive(num_layers=num_layers, channels=channels, projection_size=projection_size)
        if input not in get_args(Input):
            raise ValueError(f"input must be one of {', '.join(get_args(Input))}, got {input!r}")
        if context < 0 or (context and input == "raw"):
            raise ValueError(f"context must be at least 0, and 0 with input: raw, got {context}")
        self.input, self.context = input, context
        length = frame if input == "raw" else self.transform.num_bins
        layers, width = [], 1 + 2 * context
        for kernel, stride in layer_sizes(length, num_layers):
            layers += [nn.Conv1d(width, channels, kernel, stride), make_norm(channels, False, EPS), nn.GELU()]
            width = channels
        self.layers = nn.Sequential(*layers)
        self.projection = nn.Sequential(
            nn.Linear(embedding_size, embedding_size), nn.GELU(), nn.Linear(embedding_size, projection_size)
        )

    @property
    def causal(self) -> bool:
        """Whether no embedding waits for more than the latency: frames know nothing of each other."""
        return self.normalize == "none"

    def receptive_field_samples(self) -> int:
        """A frame, and its context."""
        return self.transform.n_fft + 2 * self.context * self.transform.hop

    def algorithmic_latency_samples(self) -> int | None:
        """A frame, and the context after it, when causal."""
        return self.transform.n_fft + self.context * self.transform.hop if self.causal else None

    def frames(self, mix: Tensor) -> Tensor:
        """Samples [B, F, N] under the windows of the STFT of mix: [B, T], not multiplied by them."""
        half, num_samples = self.transform.n_fft // 2, mix.shape[1]
        long_enough = functional.pad(mix, (0, max(0, half + 1 - num_samples)))
        padded = functional.pad(long_enough, (half, half), mode="reflect")
        frames = padded.unfold(1, self.transform.n_fft, self.transform.hop)
        return frames[:, : self.transform.num_frames(num_samples)]

    def process(self, mix: Tensor) -> Output:
        """Embeddings [B, 1, F, D] of mix: [B, T]."""
        if self.input == "log_magnitude":
            return super().process(mix)
        return Output(embeddings=self.vectors(self.encode(self.frames(mix))))

    def encode(self, feature: Tensor, memory: dict[Any, Any] | None = None) -> Tensor:
        """The last layer's mean [B, F, C] of frames of samples, or normalised log magnitudes, [B, F, N]."""
        return self._encoded(self._with_context(feature))

    def embeddings_at(self, mix: Tensor, frames: Tensor) -> Tensor:
        """Embeddings [B, Q, D] of the frames of these numbers [B, Q] of mix: [B, T], as `forward` gives them.

        No other frame is encoded, so that to learn from a few costs little.
        """
        mix = mix / measure_level(mix, self.normalize)
        if self.input == "raw":
            feature = self.frames(mix)
        else:
            feature = (self.log_magnitude(self.transform.stft(mix)) - self.mean) / self.deviation
        rows = torch.arange(len(mix), device=mix.device)[:, None]
        return self.vectors(self._encoded(self._with_context(feature)[rows, frames])).squeeze(1)

    def _with_context(self, feature: Tensor) -> Tensor:
        """[B, F, N, C], each of the frames [B, F, N] with its neighbours."""
        return functional.pad(feature, (0, 0, self.context, self.context)).unfold(1, 1 + 2 * self.context, 1)

    def _encoded(self, heard: Tensor) -> Tensor:
        """The last layer's mean [B, F, W] of frames with context [B, F, N, C]."""
        pieces = heard.mT.flatten(0, 1).split(FRAMES_PER_PIECE)
        return torch.cat([self.layers(piece).mean(2) for piece in pieces]).unflatten(0, heard.shape[:2])

    def project(self, embeddings: Tensor) -> Tensor:
        """Unit vectors [.., projection_size] of embeddings [.., D], for the contrastive loss."""
        values = self.projection(embeddings)
        return unit_vectors(values, values.shape[-1], "linear").squeeze(-2)

    def separate(self, spectrum: Tensor, num_samples: int) -> Output:
        """Embeddings of a spectrum [B, K, F]. Raises PseError where the input is raw."""
        self._hears_spectra()
        return super().separate(spectrum, num_samples)

    def embeddings(self, spectrum: Tensor, memory: dict[Any, Any]) -> Tensor:
        """Embeddings of a stream's next frames. Raises PseError where the input is raw, or has context."""
        self._hears_spectra()
        if self.context:
            raise PseError(f"its frames wait for {self.context} more", "stream", "set context: 0")
        return super().embeddings(spectrum, memory)

    def _hears_spectra(self) -> None:
        if self.input == "raw":
            raise PseError("hears samples, not a spectrum", "frame_encoder", "set input: log_magnitude")


PLUGIN = FrameEncoder
