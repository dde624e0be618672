"""The generators that the paper compares with, trained on the same data for as many steps."""
