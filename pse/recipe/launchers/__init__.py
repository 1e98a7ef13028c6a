"""Where the jobs of a stage run: a module for each launcher, found by `--cmd`."""
