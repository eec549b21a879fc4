"""``smnet serve``: predictions over HTTP, and a page.

A request passes :mod:`gate` (token, limits, queue), is decoded by :mod:`workers` (processes with
limits of time and memory) and scored by :mod:`batching` together with other requests. :mod:`app`
has the pages, :mod:`videos` the routes that take videos, :mod:`uploads` what they have in common,
:mod:`service` what all share, :mod:`camera` the stream of a browser's camera. :mod:`run` starts and
drains.
No module here imports PyTorch.
"""
