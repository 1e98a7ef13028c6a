"""Ways of training, one module each; a config chooses one by its module's name."""
