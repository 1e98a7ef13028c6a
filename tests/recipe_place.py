"""The recipe at its smallest: real stages, real synthesised speech, a few steps of training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs" / "librispeech_pse"

TINY = """
corpus:
  mini: {num_speakers: 5, speaker_s: 20, target_speaker_s: 80, noise_share: 0.3}
data: {num_valid_noises: 4}
mixture: {duration_s: 2.0, num_test: 4, num_valid: 4}
snr_predictor:
  model: {name: snr_predictor, hidden_size: 16, num_layers: 1, feature: log_magnitude}
  training: {batch_size: 8, max_examples: 48, valid_every_examples: 16}
  num_valid: 4
pretrain:
  model: {name: gru_mask, hidden_size: 8}
  training: {batch_size: 8, max_examples: 48, valid_every_examples: 16}
  methods:
    generalist: {speech: all, objective: {name: supervised}}
    pseudo_se: {objective: {name: pseudo_se}}
    pseudo_se_dp: {objective: {name: pseudo_se, purification: predictor, domain: segmental}}
finetune:
  clean_s: [3]
  start: [generalist, pseudo_se]
  training: {lr: 1e-3, batch_size: 8, max_examples: 16, valid_every_examples: 8}
score: {metrics: [si_sdr, sdr, estoi]}
report:
  num_examples: 2
  claims:
    - {claim: Practice helps, source: everybody, higher: pseudo_se.3s, lower: pseudo_se}
"""

class Place:
    """Directories of one run of the recipe, with a space and a quote in their names."""

    def __init__(self, root: Path, recipe: Path = RECIPE, config: str = TINY) -> None:
        self.root, self.recipe = root / "it's a place", recipe
        self.root.mkdir()
        self.config = self.root / "tiny.yaml"
        self.config.write_text(config)
        self.exp = self.root / "exp" / "t"
        self.first = ""

    def arguments(self, *more: str) -> list[str]:
        """The command line of run.sh in this place."""
        roots = [x for d in ("data", "dump", "exp") for x in (f"--{d}dir", str(self.root / d))]
        downloads = f"corpus.downloads_dir='{str(self.root / 'downloads').replace(chr(39), chr(39) * 2)}'"
        return [
            str(self.recipe / "run.sh"), "--config", str(self.config), "--tag", "t", *roots, "--set", downloads, *more
        ]  # fmt: skip

    def run(self, *more: str, expect: int = 0) -> str:
        """Run the recipe; returns what it printed, and fails unless it ends with the expected status."""
        done = subprocess.run(
            self.arguments(*more), capture_output=True, text=True, timeout=600, env=self.environment(), check=False
        )
        told = done.stdout + done.stderr
        assert done.returncode == expect, told[-4000:]
        return told

    @staticmethod
    def environment() -> dict[str, str]:
        """The environment of the recipe: that of the tests."""
        return os.environ | {"PSE_VENV": sys.prefix}

    def files(self) -> dict[str, bytes]:
        """Content of every file that a stage promises, by relative path; logs, locks and times left out."""
        skip = {"log", ".done", "tensorboard", ".earlier"}
        return {
            str(p.relative_to(self.root)): p.read_bytes()
            for p in sorted(self.root.rglob("*"))
            if p.is_file() and not skip & set(p.relative_to(self.root).parts) and p.name != ".lock"
        }
