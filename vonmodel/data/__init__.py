"""Prepared shapes and photos as batches of training."""
