"""Whom a mixture of speakers puts together."""

from __future__ import annotations

from typing import Literal

Pairing = Literal["whole", "balanced", "female", "male", "same_speaker", "known"]
