"""The built-in data set ``motion``: :func:`smnet.data.synthetic.motion.write_motion`."""
