"""Corpora: what is on a user's disk, as the real ones are laid out, and the embedded one."""
