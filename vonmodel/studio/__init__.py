"""The studio: a local web application to explore a model and to monitor a training."""
