"""The embedded default input: procedural chairs, cars, tables and lamps with ray cast photos."""
