"""Recipes: the settings of a training run.

``keys`` declares :class:`~smnet.recipes.keys.Recipe`, ``views`` the notation of test views.
``recipe`` reads recipes from the YAML files here or elsewhere, applies overrides, and writes them.
``studies`` holds the variants of comparisons.
"""
