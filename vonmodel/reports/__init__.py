"""Reports: HTML pages, albums, films, provenance and the log of metrics."""
