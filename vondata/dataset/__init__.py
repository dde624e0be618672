"""The formats of a prepared dataset: manifest, shape files, shards."""
