"""Entry point of `d2csr` and of `python -m d2csr`."""

import sys


def run() -> int:
    """Run the command line and return its exit code; an interrupt while it is loaded is 130."""
    try:
        from d2csr.cli.app import main
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
