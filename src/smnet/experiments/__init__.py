"""Compare models: their accuracy under one recipe (``compare``) and their cost (``profile``).

``study`` reads which models to compare, ``table`` writes the result, ``profile_report`` prints and
draws profiles, and ``demo`` trains two models on a drawn data set and writes a page.
"""
