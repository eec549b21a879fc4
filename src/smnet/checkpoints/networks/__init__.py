"""Data files of the networks that are known by name.

``motion.safetensors``  the network that ships, trained by ``tools/train_motion.py``
``published.csv``       networks of other programs, see :mod:`smnet.checkpoints.published`
``kinetics400.txt``     the class names of Kinetics-400 (DeepMind, CC BY 4.0) in index order
``somethingv2.txt``     the class names of Something-Something V2 (20BN) in index order
"""
