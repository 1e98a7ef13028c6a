"""Rooms in which speakers are heard: drawn as WHAMR! draws them, and their impulse responses.

The early echoes are image sources (Allen and Berkley, 1979) by pyroomacoustics. Behind the last echo that all
images are known of comes the diffuse tail, Gaussian noise, which decays as asked for: a box with plain walls
would not (its slowest echoes, between two walls, last 1.2 to 1.7 times as long), and takes a hundred times the
images. The ranges are those of WHAMR! (Maciejewski et al., 1910.10279) as they are cited; not checked there.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pse.errors import EnvironmentFault

LENGTH_M, WIDTH_M, HEIGHT_M = (5.0, 10.0), (5.0, 10.0), (3.0, 4.0)
# Of the microphone from the middle of the floor, of a mouth from the microphone, of both above the floor.
OFF_CENTRE_M, DISTANCE_M, ABOVE_FLOOR_M = (-0.2, 0.2), (0.66, 2.0), (0.9, 1.8)
SOUND_M_S = 343.0
# Echoes are single until so long after the direct sound, or a sixth of the decay time, and one fades into the other.
EARLY_S, FADE_S = 0.05, 0.005
# Half the length of a fractional delay.
TAPS = 40
Place = tuple[float, float, float]


@dataclass(frozen=True)
class Room:
    """A box with a microphone and one place for each source, in metres from a corner, and its decay time."""

    size_m: Place
    rt60_s: float
    microphone_m: Place
    sources_m: tuple[Place, ...]

    def __post_init__(self) -> None:
        if self.rt60_s < 0:
            raise ValueError(f"rt60_s must be at least 0, got {self.rt60_s}")
        places = (self.microphone_m, *self.sources_m)
        if not all(0 < x < size for place in places for x, size in zip(place, self.size_m, strict=True)):
            raise ValueError(f"the microphone or a source is not inside a room of {self.size_m} m")
        if any(math.dist(self.microphone_m, s) < 0.01 for s in self.sources_m):
            raise ValueError("a source is where the microphone is")

    def distance_m(self, number: int) -> float:
        """From a source to the microphone."""
        return math.dist(self.microphone_m, self.sources_m[number])


def draw_room(rng: np.random.Generator, num_sources: int, rt60_s: tuple[float, float]) -> Room:
    """A room, a microphone about its middle and mouths around it; lengths are in whole millimetres."""

    def between(limits: tuple[float, float]) -> float:
        return round(float(rng.uniform(*limits)), 3)

    size = (between(LENGTH_M), between(WIDTH_M), between(HEIGHT_M))
    decay = float(rng.uniform(*rt60_s))
    middle = (size[0] / 2 + between(OFF_CENTRE_M), size[1] / 2 + between(OFF_CENTRE_M), between(ABOVE_FLOOR_M))
    places = []
    for _ in range(num_sources):
        distance, angle, height = between(DISTANCE_M), rng.uniform(0, 2 * math.pi), between(ABOVE_FLOOR_M)
        # A mouth that is higher or lower by more than the distance is right above or below.
        flat = math.sqrt(max(0.0, distance**2 - (height - middle[2]) ** 2))
        places.append(_mm((middle[0] + flat * math.cos(angle), middle[1] + flat * math.sin(angle), height)))
    return Room(size, decay, _mm(middle), tuple(places))


def _mm(place: Place) -> Place:
    return (round(place[0], 3), round(place[1], 3), round(place[2], 3))


@lru_cache(maxsize=256)
def impulse_responses(room: Room, sample_rate: int) -> tuple[np.ndarray, ...]:
    """Of each source to the microphone, [N] float64; the direct sound has a gain of 1, so that levels are its levels.

    The same description gives the same samples. Raises EnvironmentFault when pyroomacoustics is not installed.
    """
    made = tuple(_response(room, number, sample_rate) for number in range(len(room.sources_m)))
    for response in made:
        # Shared by all who ask again.
        response.setflags(write=False)
    return made


def direct_responses(room: Room, sample_rate: int) -> tuple[np.ndarray, ...]:
    """Of the direct sound alone: a delay of distance / 343 m/s and a gain of 1, [N] float64 each."""
    delays = [room.distance_m(n) / SOUND_M_S * sample_rate for n in range(len(room.sources_m))]
    return tuple(_pulses(np.array([d]), np.ones(1), math.ceil(d) + TAPS + 1) for d in delays)


def _response(room: Room, number: int, sample_rate: int) -> np.ndarray:
    direct = direct_responses(room, sample_rate)[number]
    if room.rt60_s == 0:
        return direct
    distance, single_s = room.distance_m(number), min(EARLY_S, room.rt60_s / 6)
    turn_s = distance / SOUND_M_S + single_s
    length = max(len(direct), math.ceil((turn_s + room.rt60_s) * sample_rate))
    time_s = np.arange(length) / sample_rate
    turned = np.pi / 2 * np.clip(1 - (turn_s - time_s) / min(FADE_S, single_s / 2), 0, 1)
    early = _pulses(*_echoes(room, number, turn_s, sample_rate), length)
    # What images of all orders come to on average: there are the more of them, the further and fainter they are.
    power = 4 * math.pi * SOUND_M_S * distance**2 / (math.prod(room.size_m) * sample_rate)
    rng = np.random.default_rng(zlib.crc32(f"{room} {number}".encode()))
    tail = math.sqrt(power) * rng.standard_normal(length) * 10 ** (-3 * time_s / room.rt60_s)
    echoes = early * np.cos(turned) + tail * np.sin(turned)
    echoes[: len(direct)] += direct
    return echoes


def _echoes(room: Room, number: int, until_s: float, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """All echoes of a source that arrive before a time: delays in samples, gains re its direct sound."""
    pra = _pyroomacoustics()
    x, y, z = room.size_m
    # Eyring: what walls take of the energy that meets them, for energy to fall by 60 dB in rt60_s.
    lost = 1 - math.exp(-24 * math.log(10) / SOUND_M_S * x * y * z / (2 * (x * y + x * z + y * z) * room.rt60_s))
    order = math.ceil(SOUND_M_S * until_s / min(room.size_m))
    box = pra.ShoeBox(room.size_m, fs=sample_rate, materials=pra.Material(lost), max_order=order)
    box.add_source(list(room.sources_m[number]))
    box.add_microphone(list(room.microphone_m))
    box.image_source_model()
    images = box.sources[0]
    distances = np.linalg.norm(images.images - np.array(room.microphone_m)[:, None], axis=0)
    there = (images.orders > 0) & (distances < SOUND_M_S * until_s)
    delays = distances[there] / SOUND_M_S * sample_rate
    return delays, images.damping[0][there] * room.distance_m(number) / distances[there]


def _pulses(delays: np.ndarray, gains: np.ndarray, length: int) -> np.ndarray:
    """[length] of pulses at delays in samples, between samples too (a sinc under a Hann window)."""
    whole = np.floor(delays).astype(int)
    taps = np.arange(-TAPS, TAPS + 1)
    away = taps - (delays - whole)[:, None]
    values = gains[:, None] * np.sinc(away) * (0.5 + 0.5 * np.cos(np.pi * away / (TAPS + 1)))
    places = whole[:, None] + taps
    inside = (places >= 0) & (places < length)
    return np.bincount(places[inside], values[inside], length)


def _pyroomacoustics() -> Any:
    try:
        import pyroomacoustics
    except ImportError as error:
        fix = "pip install pyroomacoustics, or ask for no rt60_s"
        raise EnvironmentFault("pyroomacoustics, which rooms need, is not installed", None, fix) from error
    return pyroomacoustics
