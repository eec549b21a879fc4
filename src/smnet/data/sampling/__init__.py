"""Sampling of frames: :func:`smnet.data.sampling.rules.sample` and the rules of published code."""
