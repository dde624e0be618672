"""Procedural demo collection: chairs, cars, tables and lamps with ray-cast photos."""
