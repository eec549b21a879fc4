"""``smnet export --to web``: a folder of static files that recognises videos in the browser alone.

:func:`smnet.web.site.write_site` writes the folder. ``runtime`` has the files of onnxruntime-web.
The modules of the page lie in ``page/``: ``containers`` and ``video`` take frames out of a file,
``pixels`` and ``sampling`` make of them what Python makes, ``worker`` runs the network, ``camera``
follows a camera.
"""
