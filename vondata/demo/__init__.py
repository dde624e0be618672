"""The embedded default input: procedural chairs and cars with ray cast photos."""
