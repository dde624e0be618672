"""Scores of images and shapes."""
