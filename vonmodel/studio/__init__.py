"""The studio: a local web page to explore a model and to watch a training."""
