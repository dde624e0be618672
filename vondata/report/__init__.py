"""HTML report of a prepared dataset."""
