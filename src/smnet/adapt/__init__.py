"""Adaptation of a network to few clips: features once, a probe on them, fine-tuning from it."""
