"""Baseline GANs of the paper's comparison, trained on the same data for as many steps."""
