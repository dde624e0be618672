"""What one training iteration does in the shape, texture and joint stage."""
