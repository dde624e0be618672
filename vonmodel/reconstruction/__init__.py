"""Shape, viewpoint and texture code from one photo."""
