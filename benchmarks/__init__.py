"""Benchmarks of speed, memory and accuracy: each module is a command, `python -m benchmarks.<name>`, with a table."""
