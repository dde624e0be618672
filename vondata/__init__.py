"""Raw meshes and photos become a prepared dataset: arrays, images and one manifest per class."""
