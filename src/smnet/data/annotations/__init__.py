"""Annotations: every form that describes a data set, read into clips with labels in splits.

``source.ClipSource`` names a data set and the options of reading it, ``read.read_clips`` reads and
checks it, ``read.recognise`` returns its form. ``classes`` compares class names. A form is one file
in ``forms`` and one entry in ``formats``; see docs/adding-an-annotation-form.md.
"""
