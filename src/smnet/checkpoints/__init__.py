"""Checkpoints: one safetensors file with the weights, the input description and the metadata.

For other wings: :mod:`header` finds a checkpoint by name, address or path and reads its metadata
without the weights and without PyTorch, :mod:`file` reads and writes whole checkpoints,
:mod:`metadata` holds the input description's JSON and derives test views from it. :mod:`convert`
turns published checkpoints into ours, :mod:`published` knows published networks by name,
:mod:`hub` and :mod:`card` exchange checkpoints with the Hugging Face hub.
"""
