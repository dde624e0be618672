"""Training: the loop, its three stages (shape, texture, joint), losses and logging."""
