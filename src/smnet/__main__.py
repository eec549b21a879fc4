"""``python -m smnet`` is the command line."""

from smnet.cli import main

if __name__ == "__main__":
    main()
