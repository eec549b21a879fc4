"""``python -m smnet`` is the command line."""

from smnet.cli.main import main

if __name__ == "__main__":
    main()
