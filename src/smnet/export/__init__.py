"""Export checkpoints to ONNX, OpenVINO and torch.export.

:func:`smnet.export.export.export` is what other wings use. ``writers`` has the table of engines and
writes their files, ``onnx_rewrites`` rewrites graphs for them, ``quantise`` makes int8 files, and
``parity`` compares an exported file with its checkpoint.
"""
