"""Resumable preparation of the items of a collection: planning, execution, journal."""
