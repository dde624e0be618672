"""What times and weighs VON: each module is a command, `python -m benchmarks.<name>`; all print one kind of table."""
