"""The differentiable projection of a volume to a 2.5D sketch."""
