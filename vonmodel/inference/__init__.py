"""What a trained model is used for: sampling, rendering, editing, export."""
