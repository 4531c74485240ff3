"""`python -m repurpose` is the command `repurpose`."""

from repurpose.cli import main

if __name__ == "__main__":
    main()
