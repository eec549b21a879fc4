"""Why a network gives a score: maps of evidence, the test of time, and checks of the maps.

The evidence itself is in :mod:`smnet.inference.evidence`. :func:`run.explain` adds what shows and
tests it, :mod:`draw` and :mod:`page` show it.
"""
