"""Inference with a trained model: sampling, rendering, editing, interpolation, texturing, export."""
