"""Evaluation of images and shapes: FID, KID, precision and recall, MMD, COV, 1-NNA, view consistency."""
