"""Training: the loop, its checkpoints and guards, and the objectives it can follow."""
