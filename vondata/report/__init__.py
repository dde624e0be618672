"""The page that shows a prepared dataset."""
