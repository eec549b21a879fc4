"""Tables, pages and pictures of all verbs, in one look.

Others use: ``tables`` and ``data_tables`` (terminal), ``page`` (the report of the demo),
``confusion`` and ``survey`` (pictures), ``plotting`` (what every picture shares).
"""
