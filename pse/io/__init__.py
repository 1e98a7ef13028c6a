"""Files in and out: audio, data directories, arks, JSON lines, archives; all written atomically."""
