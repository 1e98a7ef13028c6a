"""BLSTM embedding network of deep clustering (1508.04306), and its causal LSTM form."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pse.models.base import Normalize, require_positive
from pse.models.embedding import Activation, EmbeddingModel


class BLSTMEmbedding(EmbeddingModel):
    """LSTM layers on the log magnitude, in both directions or (bidirectional: false) forward only.

    The paper's net has two layers of 600 cells a direction, D = 40 and tanh: 18.36 M weights.
    """

    def __init__(
        self,
        hidden_size: int = 600,
        num_layers: int = 2,
        embedding_size: int = 40,
        activation: Activation = "tanh",
        bidirectional: bool = True,
        dropout: float = 0.0,
        num_masks: int = 0,
        input_noise: float = 0.0,
        n_fft: int = 256,
        hop: int = 64,
        sample_rate: int = 8000,
        normalize: Normalize = "rms",
        node_bins: int = 1,
        node_frames: int = 1,
        head_size: int = 0,
    ) -> None:
        width = hidden_size * (2 if bidirectional else 1)
        super().__init__(
            width, embedding_size, activation, num_masks, input_noise, n_fft, hop, sample_rate, normalize,
            node_bins, node_frames, head_size,
        )  # fmt: skip
        require_positive(hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {dropout}")
        self.lstm = nn.LSTM(
            self.transform.num_bins, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
        )  # fmt: skip

    @property
    def causal(self) -> bool:
        """Whether no embedding waits for more than the latency."""
        return not self.lstm.bidirectional and self.normalize == "none"

    def receptive_field_samples(self) -> None:
        """None: a recurrent network remembers everything."""
        return None

    def algorithmic_latency_samples(self) -> int | None:
        """One STFT window, or those of a node's frames, when causal."""
        return self.span_samples if self.causal else None

    def encode(self, feature: Tensor, memory: dict[Any, Any] | None = None) -> Tensor:
        """Hidden states [B, F, W] of normalised log magnitudes [B, F, K]."""
        hidden, state = self.lstm(feature, None if memory is None else memory.get("lstm"))
        if memory is not None:
            memory["lstm"] = state
        return hidden


PLUGIN = BLSTMEmbedding
