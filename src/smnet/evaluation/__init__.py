"""Measuring a model on a labelled data set.

For other wings: :func:`scoring.score_clips` scores a list of clips with any backend,
:func:`evaluate.evaluate_checkpoints` measures checkpoints and exported files, and
:class:`results.Evaluation` holds the scores with all numbers that follow from them.
:mod:`metrics` has the formulas.
"""
