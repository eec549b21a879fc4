"""Vectors of videos, and finding videos by them."""
