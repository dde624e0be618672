"""Files, folders and URLs: atomic writes, listings, leases and local copies."""
