"""Data: annotations, sampling, decoding, transforms. Knows nothing of the models."""
