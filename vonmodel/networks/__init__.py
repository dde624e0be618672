"""The seven networks of a Visual Object Network."""
