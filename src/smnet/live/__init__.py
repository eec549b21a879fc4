"""What happens now: live streams, answered by presentation time.

For other wings: :func:`watch.watch` gives the answers for a camera, an address or a file as an
iterator. :mod:`sources` opens it, :mod:`capture` reads it in a thread, :mod:`clock` chooses frames,
:mod:`scoring` scores windows or steps, :mod:`events` turns scores into events. :mod:`outbox`,
:mod:`recorder`, :mod:`page` and :mod:`terminal` pass answers on. No module here imports PyTorch.
"""
