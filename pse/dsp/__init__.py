"""Signal processing that models, losses and corpora share."""
