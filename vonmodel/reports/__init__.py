"""Pages, albums, videos and the log of metrics."""
