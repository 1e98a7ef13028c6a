"""From embeddings to sources: clusters of bins, how many there are, and the masks they make."""
