"""Write packed sets; :func:`smnet.data.packing.pack.pack_clips` is the entry point."""
