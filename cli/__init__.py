"""The von command: one module per verb; the only place that prints."""
