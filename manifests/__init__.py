"""What an object class is and what the columns of a dataset mean: data only, one TOML file per class."""
