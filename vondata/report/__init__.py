"""The report: an HTML page of a prepared dataset."""
