"""When something happens in long recordings.

For other wings: :func:`curves.score_recording` gives the scores of a recording over time,
:class:`segments.Thresholds` and :func:`segments.find_segments` turn them into segments, and
:mod:`writers` writes segments in the forms of other programs. No module here imports PyTorch.
"""
