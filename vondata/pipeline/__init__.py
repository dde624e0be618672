"""One resumable job over the items of a collection: planned, executed, journalled."""
