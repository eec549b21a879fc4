"""Exact frames from video files, folders of images and arrays.

Others use :class:`smnet.data.video.base.Video` through :func:`smnet.data.open.open_video`.
"""
