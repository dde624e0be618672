"""`python -m voncli`, for launchers that start modules."""

from voncli.main import main

main()
