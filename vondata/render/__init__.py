"""Ray casting renderer: meshes and cameras to shaded images, masks, depth, normals and positions."""
