"""Photos become square cut-outs with a mask and, where known, a viewpoint."""
