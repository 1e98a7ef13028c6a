"""A personal model out of a person's own noisy recordings: verdict, training, check against the base, package."""
