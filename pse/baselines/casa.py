"""Computational auditory scene analysis: speakers told apart by pitch, onsets and timbre, with nothing learned.

A simplified re-implementation in the spirit of Hu & Wang, "An unsupervised approach to cochannel speech
separation", IEEE TASLP 21(1), 2013. Kept are its stages: two pitches at a time; units of time and frequency go to
the pitch at whose lag their autocorrelation is larger; runs of pitch (simultaneous streams) are grouped into
speakers by a beam search for the greatest scatter between groups in relation to that within them, streams that
overlap being kept apart; onset and offset segments carry speakers over to unvoiced units; the rest is split.

Simplified are: the bins of an STFT for a gammatone filterbank, and autocorrelation as the transform of the power
around a bin for correlograms; `pse.baselines.pitch` for the iterative (tandem) estimate of pitch and mask; one
scale of segments for several; mel cepstra and mean pitch of a stream for gammatone cepstra; the scatter within
streams, known before the search, for that within groups; a term that joins streams where one goes on at the pitch
at which another ends. Streams whose group is unsure are split as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.fft import dct
from torch import Tensor

from pse.baselines.base import Baseline, Scene
from pse.baselines.pitch import WINDOW_S, Streams, find_streams, harmonicity, narrowband, pitch_tracks
from pse.dsp.stft import STFT
from pse.errors import PseError

# The numbers here and in the options were chosen on mixtures of training readers of LibriSpeech.
MAX_S = 600.0
MIN_STREAM_S, GAP_S, TOLERATED_OVERLAP_S = 0.032, 0.096, 0.032
NUM_BANDS, NUM_CEPSTRA, FLOOR = 40, 12, 1e-6
# Of a stream's own units, those that fit its pitch so well describe its speaker.
DESCRIBING_MATCH = 0.3
# Of log pitch: from stream to stream of one speaker, and from the end of a stream to where the next goes on.
PITCH_SPREAD, JOIN_SPREAD = 0.15, 0.2
SMOOTH_S, SMOOTH_BINS, FRONT_DB_S, SEGMENT_SHARE = 0.016, 1.5, 100.0, 0.7


@dataclass(frozen=True)
class CASAOptions:
    """What a user may want to change.

    min_pitch_hz, max_pitch_hz: where pitches are looked for. match: autocorrelation, -1 to 1, from which a unit
    belongs to the only pitch there is. certainty: streams whose margin between two groups is less than so much of
    the mean margin are split. continuity, overlap: what joining and keeping apart weigh. beam: its width.
    """

    min_pitch_hz: float = 70.0
    max_pitch_hz: float = 370.0
    match: float = 0.1
    certainty: float = 0.4
    continuity: float = 2.0
    overlap: float = 10.0
    beam: int = 16

    def __post_init__(self) -> None:
        if not 20 <= self.min_pitch_hz < self.max_pitch_hz / 1.5 or self.max_pitch_hz > 1000:
            raise ValueError("pitches must be between 20 and 1000 Hz, the highest more than 1.5 times the lowest")
        if not -1 <= self.match <= 1 or min(self.certainty, self.continuity, self.overlap) < 0 or self.beam < 1:
            raise ValueError("match must be in [-1, 1], certainty, continuity and overlap at least 0, beam at least 1")


def casa_masks(
    mix: np.ndarray,
    sample_rate: int,
    num_speakers: int = 2,
    options: CASAOptions | None = None,
    transform: STFT | None = None,
) -> np.ndarray:
    """Masks [S, K, F] of 0 and 1, float32, and equal parts where nothing is known; they add up to one.

    mix: [T], T >= 1; transform: of the masks, 32 ms and 8 ms at 8 kHz by default (256, 64, sqrt-Hann).
    Silence, and sound without a pitch, is split. At most two pitches are told apart at a time, whatever
    num_speakers is. Raises PseError for a mix that is empty, not mono, not finite or longer than ten minutes.
    """
    options, transform = options or CASAOptions(), transform or STFT(256, 64, "sqrt_hann")
    samples = _checked(mix, sample_rate, num_speakers)
    shape = (num_speakers, transform.num_frames(len(samples)), transform.num_bins)
    masks = np.full(shape, 1 / num_speakers, np.float32)
    peak = np.abs(samples).max()
    # Shorter than a window, all that is heard is reflected, and reflections are periodic.
    if num_speakers > 1 and peak > 0 and len(samples) >= WINDOW_S * sample_rate:
        _fill(masks, samples / peak, sample_rate, options, transform)
    return masks.transpose(0, 2, 1)


def _checked(mix: np.ndarray, sample_rate: int, num_speakers: int) -> np.ndarray:
    samples = np.asarray(mix)
    if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
        raise PseError(f"{list(samples.shape)} of {samples.dtype} is no mixture", "CASA", "give floats [T], mono")
    if not np.isfinite(samples).all():
        raise PseError("the mixture holds NaN or infinity", "CASA", "leave this mixture out")
    if num_speakers < 1 or sample_rate < 2000:
        raise PseError(f"cannot separate {num_speakers} speakers at {sample_rate} Hz", "CASA")
    if len(samples) > MAX_S * sample_rate:
        raise PseError(f"{len(samples) / sample_rate:.0f} s are too long", "CASA", f"cut it to {MAX_S:g} s")
    return samples.astype(np.float64)


def _fill(masks: np.ndarray, samples: np.ndarray, sample_rate: int, options: CASAOptions, transform: STFT) -> None:
    """Write into masks [S, F, K] what pitch and onsets tell."""
    hop_s = transform.hop / sample_rate
    spectrum = narrowband(samples, sample_rate, transform.hop, transform.n_fft)
    tracks = pitch_tracks(spectrum, options.min_pitch_hz, options.max_pitch_hz)
    streams = find_streams(tracks, max(2, round(MIN_STREAM_S / hop_s)))
    if not len(streams.track):
        return
    on = np.zeros(tracks.shape, bool)
    for track, start, stop in zip(*streams, strict=True):
        on[track, start:stop] = True
    tracks = np.where(on, tracks, 0.0)
    match = harmonicity(spectrum, tracks, transform.num_bins)
    power = transform.stft(torch.from_numpy(samples)[None])[0].abs().square().numpy().T
    affinity = _affinity(streams, tracks, match, power, sample_rate, hop_s, options)
    group, margin = search(affinity, len(masks), streams.length, options.beam)
    sure = margin >= options.certainty
    known = _voiced(masks, streams, match, group, sure, options.match)
    _unvoiced(masks, known, ~on.any(0), power, hop_s)


def _affinity(
    streams: Streams,
    tracks: np.ndarray,
    match: np.ndarray,
    power: np.ndarray,
    sample_rate: int,
    hop_s: float,
    options: CASAOptions,
) -> np.ndarray:
    """How much is gained when two streams are of one speaker, [N, N]: timbre and pitch, continuity, no overlap.

    The timbre's part sums, over the streams of a group, to the squared length of its sum: for groups of equal
    weight that is tr(S_W^-1 S_B) with the scatter within streams for S_W, up to a factor.
    """
    features, scatter = _describe(streams, tracks, match, power, sample_rate)
    weight = streams.length.astype(float)
    centred = features - np.average(features, axis=0, weights=weight)
    white = centred @ np.linalg.cholesky(np.linalg.inv(scatter))
    spread = (weight @ (white**2).sum(1)) / weight.sum()
    timbre = white @ white.T / max(spread, np.finfo(float).tiny)
    shared = np.minimum.outer(streams.stop, streams.stop) - np.maximum.outer(streams.start, streams.start)
    apart = np.where(shared * hop_s >= TOLERATED_OVERLAP_S, shared, 0) / np.sqrt(np.outer(weight, weight))
    joined = options.continuity * _continuity(streams, tracks, hop_s)
    affinity = (timbre + joined - options.overlap * apart) * np.outer(weight, weight)
    np.fill_diagonal(affinity, 0)
    return affinity


def _continuity(streams: Streams, tracks: np.ndarray, hop_s: float) -> np.ndarray:
    """[N, N], 1 to -2: does a stream begin soon after another ends, and at its pitch?"""
    first = np.array([np.log(tracks[k, a : min(a + 3, b)]).mean() for k, a, b in zip(*streams, strict=True)])
    last = np.array([np.log(tracks[k, max(a, b - 3) : b]).mean() for k, a, b in zip(*streams, strict=True)])
    gap_s = (streams.start[None] - streams.stop[:, None]) * hop_s
    jump = np.abs(first[None] - last[:, None]) / JOIN_SPREAD
    near = np.where(gap_s >= -TOLERATED_OVERLAP_S, np.exp(-np.maximum(gap_s, 0) / GAP_S), 0)
    joined = near * (1 - np.minimum(jump, 3))
    return joined + joined.T


def _describe(
    streams: Streams, tracks: np.ndarray, match: np.ndarray, power: np.ndarray, sample_rate: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean log pitch and mel cepstra of the streams [N, D], and their scatter between frames of one stream [D, D]."""
    bands = _mel_bands(power.shape[1], sample_rate)
    floor = FLOOR * power.max()
    usual = np.log(power.mean(0) @ bands.T + floor)
    features, deviations = [], []
    for track, start, stop in zip(*streams, strict=True):
        own, log_pitch = match[track, start:stop], np.log(tracks[track, start:stop])
        energy = power[start:stop]
        units = (own >= match[1 - track, start:stop]) & (own > DESCRIBING_MATCH)
        heard = units.sum(0) @ bands.T
        level = np.log((energy * units).sum(0) @ bands.T / np.maximum(heard, 1e-9) + floor)
        enough = heard > 0.05 * bands.sum(1) * (stop - start)
        # Bands in which the stream is not heard are those of the whole mixture, at the stream's level.
        shift = (level - usual)[enough].mean() if enough.any() else 0.0
        features.append(np.append(log_pitch.mean(), _cepstra(np.where(enough, level - shift, usual))))
        frames = np.column_stack([log_pitch, _cepstra(np.log(energy @ bands.T + floor))])
        deviations.append(frames - frames.mean(0))
    return np.array(features), _scatter(np.concatenate(deviations))


def _scatter(deviations: np.ndarray) -> np.ndarray:
    """Covariance [D, D] of deviations [N, D], nearer to a diagonal one the fewer there are."""
    num_rows, size = deviations.shape
    scatter = deviations.T @ deviations / num_rows
    scatter[0, 0] += PITCH_SPREAD**2
    keep = num_rows / (num_rows + size)
    return keep * scatter + (1 - keep) * np.diag(np.diag(scatter)) + 1e-6 * np.eye(size)


def _cepstra(log_bands: np.ndarray) -> np.ndarray:
    return dct(log_bands, norm="ortho", axis=-1)[..., 1 : NUM_CEPSTRA + 1]


def _mel_bands(num_bins: int, sample_rate: int) -> np.ndarray:
    """Triangles [NUM_BANDS, K] of equal width on the mel scale, from 60 Hz up."""
    frequency = np.linspace(0, sample_rate / 2, num_bins)
    mel = 2595 * np.log10(1 + frequency / 700)
    edges = np.linspace(2595 * np.log10(1 + 60 / 700), mel[-1], NUM_BANDS + 2)
    centre, width = edges[1:-1, None], edges[1] - edges[0]
    return np.maximum(1 - np.abs(mel - centre) / width, 0)


def search(affinity: np.ndarray, num_groups: int, weight: np.ndarray, beam: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups [N] for the greatest sum of affinities [N, N] within groups, and the margin [N] of each decision.

    The heaviest stream comes first; `beam` partial groupings are kept, and the best whole one is improved by
    single moves. A margin is the loss, by unit of weight, that moving to the next best group costs; mean 1.
    """
    order = np.argsort(-weight, kind="stable")
    labels, scores = np.zeros((1, 1), int), np.zeros(1)
    for n in range(1, len(order)):
        members = labels[:, :, None] == np.arange(num_groups)
        gains = scores[:, None] + np.einsum("n,bnc->bc", affinity[order[n], order[:n]], members)
        # Groups are alike while empty: the first of them stands for all.
        gains[np.arange(num_groups) > labels.max(1, keepdims=True) + 1] = -np.inf
        best = np.argsort(-gains, axis=None, kind="stable")[:beam]
        best = best[np.isfinite(gains.ravel()[best])]
        labels = np.column_stack([labels[best // num_groups], best % num_groups])
        scores = gains.ravel()[best]
    group = np.empty(len(order), int)
    group[order] = labels[0]
    return group, _settle(affinity, group, num_groups, weight)


def _settle(affinity: np.ndarray, group: np.ndarray, num_groups: int, weight: np.ndarray) -> np.ndarray:
    """Move single streams while that gains something; margins [N] of where they are then."""
    rows = np.arange(len(group))
    gains = affinity @ np.eye(num_groups)[group]
    for _ in range(10 * len(group)):
        loss = gains[rows, group][:, None] - gains
        mover, target = np.unravel_index(loss.argmin(), loss.shape)
        if loss[mover, target] >= -1e-9 * np.abs(gains).max():
            break
        gains[:, group[mover]] -= affinity[:, mover]
        gains[:, target] += affinity[:, mover]
        group[mover] = target
    others = np.where(np.eye(num_groups, dtype=bool)[group], -np.inf, gains).max(1)
    margin = (gains[rows, group] - others) / weight
    mean = np.average(np.abs(margin), weights=weight)
    return margin / mean if mean > 0 else np.ones(len(group))


def _voiced(
    masks: np.ndarray, streams: Streams, match: np.ndarray, group: np.ndarray, sure: np.ndarray, threshold: float
) -> np.ndarray:
    """Masks [S, F, K] of the frames with a sure stream: a unit goes to the stream that it matches better.

    What does not match the only speaker with a pitch is the others'. Returns which frames these are, [F].
    """
    owner = np.full(match.shape[:2], -1)
    known = np.zeros(match.shape[1], bool)
    for track, start, stop, speaker, clear in zip(*streams, group, sure, strict=True):
        owner[track, start:stop] = speaker
        known[start:stop] |= clear
    rivals = (owner[0] != owner[1]) & (owner >= 0).all(0)
    better = match.argmax(0)
    winner = np.where(better == 0, owner[0][:, None], owner[1][:, None])
    own = (match.max(0) > threshold) | rivals[:, None]
    for speaker, mask in enumerate(masks):
        mine = np.where(winner == speaker, own, ~own / (len(masks) - 1))
        mask[known] = mine[known]
    return known


def _unvoiced(masks: np.ndarray, known: np.ndarray, unvoiced: np.ndarray, power: np.ndarray, hop_s: float) -> None:
    """Masks [S, F, K] of the frames not known: a segment is of the speaker who has most of its energy elsewhere."""
    labels, num_segments = segments(power, hop_s)
    weights = power * (known[:, None] & (labels > 0))
    energy = np.stack([np.bincount(labels.ravel(), (weights * m).ravel(), num_segments + 1) for m in masks])
    total = energy.sum(0)
    share = energy.max(0) / np.where(total > 0, total, 1)
    clear = (share >= SEGMENT_SHARE)[labels] & unvoiced[:, None]
    speaker = energy.argmax(0)[labels]
    for index, mask in enumerate(masks):
        mask[clear] = (speaker == index)[clear]


def segments(power: np.ndarray, hop_s: float) -> tuple[np.ndarray, int]:
    """Segments [F, K], numbered from 1, 0 outside, and their number: from an onset to an offset in connected bins.

    An onset is where the smoothed level [F, K] rises fastest, an offset where it falls fastest.
    """
    smooth = ndimage.gaussian_filter(power, (SMOOTH_S / hop_s, SMOOTH_BINS))
    rise = np.gradient(10 * np.log10(smooth + FLOOR * smooth.max()), axis=0) / hop_s
    around = ndimage.maximum_filter1d(np.abs(rise), 3, axis=0) == np.abs(rise)
    front = np.where(around & (np.abs(rise) > FRONT_DB_S), np.sign(rise), 0).astype(int)
    latest = np.maximum.accumulate(np.where(front != 0, np.arange(len(front))[:, None], 0), axis=0)
    inside = (np.take_along_axis(front, latest, 0) > 0) & (front == 0)
    return ndimage.label(inside)


class CASA(Baseline):
    """Grouping by pitch, onsets and timbre (Hu & Wang 2013, simplified); nothing is learned."""

    Options = CASAOptions

    def masks(self, scene: Scene) -> Tensor:
        """Masks [S, K, F]."""
        num_speakers = len(scene.spectra) - 1
        return torch.from_numpy(casa_masks(scene.mix, scene.sample_rate, num_speakers, self.options, self.transform))


PLUGIN = CASA
