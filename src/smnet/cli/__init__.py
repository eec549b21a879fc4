"""The command line, one file per group of verbs; ``main`` has the table of verbs.

Nothing else of the package imports this wing.
"""
