"""Audio caches, mixtures as seeded descriptions, and batches."""
