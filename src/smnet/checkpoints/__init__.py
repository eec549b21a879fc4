"""Checkpoints: one safetensors file with the weights, the input description and the metadata.

For other wings: :mod:`header` reads the metadata without the weights and without PyTorch,
:mod:`file` reads and writes whole checkpoints, :mod:`metadata` holds the input description's JSON
and derives test views from it. :mod:`convert` turns published checkpoints into ours, :mod:`hub`
and :mod:`card` exchange them with the Hugging Face hub.
"""
