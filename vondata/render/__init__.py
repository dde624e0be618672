"""The ray caster: meshes and cameras to shaded images, masks, depth, normals and positions."""
