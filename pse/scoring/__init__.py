"""Scores, their tables and figures, and the pages people read them on."""
