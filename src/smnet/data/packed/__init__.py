"""Packed sets: the frames of a data set as JPEG in a few large Arrow files.

:mod:`smnet.data.packed.read` reads a set from a local folder or an address;
:mod:`smnet.data.packing` writes one.
"""
