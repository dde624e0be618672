"""Meshes and voxel files become prepared shapes."""
