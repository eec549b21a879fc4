"""Predictions and features of many files: resumable, into Parquet tables, also on Ray.

:func:`smnet.corpus.run.run_corpus` works on one machine. :mod:`smnet.corpus.engine` offers the same
row function to Ray Data and Daft.
"""
