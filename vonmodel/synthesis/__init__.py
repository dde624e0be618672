"""What a trained model makes: images, sketches and shapes."""
