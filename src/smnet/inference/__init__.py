"""Scoring of clips: one backend per engine, and the :class:`Recognizer` on top of it.

For other wings: :func:`backends.open_backend` opens a checkpoint or an exported file,
:func:`backends.plan_views` says which views it is tested with, and ``Backend.score`` scores them.
``smnet predict`` (:mod:`recognizer`), ``smnet evaluate`` and the validation of training all go
through ``Backend.score``. :mod:`sources` finds videos, :mod:`overlay` draws labels on a video.

No module here but :mod:`torch_backend` imports PyTorch.
"""
