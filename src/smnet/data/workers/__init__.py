"""Workers with a time limit for each file: a decoder that hangs or crashes costs its file only.

* :class:`smnet.data.workers.pool.ProcessPool`: processes, for training, evaluation, check, stats
  and pack.
* :class:`smnet.data.workers.prefetch.Prefetcher`: threads, for prediction.
"""
