"""Definitions of object classes, manifest columns and rejection reasons: data only, as TOML files."""
