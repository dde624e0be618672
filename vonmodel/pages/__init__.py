"""What all HTML pages that VON writes have in common: one frame and one look."""
