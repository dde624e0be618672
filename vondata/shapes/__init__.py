"""Prepares shapes from mesh and voxel files."""
