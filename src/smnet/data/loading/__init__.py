"""From clips to batches of views.

* :mod:`smnet.data.loading.views`: the views of one video (without PyTorch).
* :mod:`smnet.data.loading.dataset`: the data set of clips and the order of its batches.
* :mod:`smnet.data.loading.loader`: batches prefetched by worker processes.
* :mod:`smnet.data.loading.transforms`: scaling, normalisation, Mixup and CutMix.
"""
