"""Using a trained model: on arrays and files of any rate and length, and as a packed directory."""
