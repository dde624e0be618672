"""Single-view reconstruction: shape, viewpoint and texture code of a photo; inversion of meshes to shape codes."""
