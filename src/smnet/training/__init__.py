"""Train a model from a recipe.

:func:`smnet.training.loop.train` is the loop. ``setup`` prepares a run, ``start_weights`` loads
its first weights, ``optim`` has the optimiser and the schedule, ``step`` the parts of a step,
``augment`` the augmentation on the device, ``state`` the file that a run resumes from, and ``log``
its log. Other wings use ``train``, ``setup.read_training_clips`` and ``setup.build_model``.
"""
