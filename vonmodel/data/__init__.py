"""Datasets, augmentation and batch loading of prepared shapes and photos."""
