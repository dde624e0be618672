"""Prepares photos as square cut-outs with a mask and, if known, a viewpoint."""
