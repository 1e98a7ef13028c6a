"""Nodes: patches of time-frequency bins that one embedding stands for, from a single bin to a whole column.

2305.10652 clusters "frames", which public reviews of it read as bins, patches or columns; here it is an option.
A node shape is (bins, frames), both at least 1: (1, 1) is a bin, (129, 1) with 129 bins a column. The nodes at
the upper and right edge hold the bins and frames that are left.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pse.errors import PseError

Shape = tuple[int, int]


def grid(shape: Shape, num_bins: int, num_frames: int) -> Shape:
    """Number of nodes over frequency and over time, Kn and Fn, of K bins and F frames."""
    bins, frames = shape
    if min(shape) < 1:
        raise PseError(f"a node of {bins} x {frames} bins and frames is none", "nodes", "give at least 1 of each")
    return -(-num_bins // bins), -(-num_frames // frames)


def pooled(power: Tensor, shape: Shape) -> Tensor:
    """Sums over the bins of each node: [.., Kn, Fn] of power: [.., K, F]. Raises PseError for an empty shape."""
    num_nodes, num_columns = grid(shape, *power.shape[-2:])
    if shape == (1, 1):
        return power
    missing = num_nodes * shape[0] - power.shape[-2], num_columns * shape[1] - power.shape[-1]
    whole = functional.pad(power, (0, missing[1], 0, missing[0]))
    return whole.unflatten(-1, (num_columns, shape[1])).sum(-1).unflatten(-2, (num_nodes, shape[0])).sum(-2)


def expanded(masks: Tensor, shape: Shape, num_bins: int, num_frames: int) -> Tensor:
    """What each bin's node has: [.., K, F] of masks (or labels) of nodes: [.., Kn, Fn].

    Raises PseError where that is not the number of nodes of K bins and F frames.
    """
    given, needed = tuple(masks.shape[-2:]), grid(shape, num_bins, num_frames)
    if given != needed:
        what = f"{given} nodes of {tuple(shape)} do not cover {num_bins} bins x {num_frames} frames"
        raise PseError(what, "nodes", f"make them {needed}")
    if shape == (1, 1):
        return masks
    wide = masks.repeat_interleave(shape[0], -2)[..., :num_bins, :]
    return wide.repeat_interleave(shape[1], -1)[..., :num_frames]
