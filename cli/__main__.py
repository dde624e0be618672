"""`python -m voncli`, for launchers that start modules."""

from .main import main

main()
