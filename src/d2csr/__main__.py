"""Entry point of `d2csr` and of `python -m d2csr`."""

import sys


def run() -> int:
    """Run the command line and return its exit code: 130 for an interrupt while it is loaded.

    Too little memory to load what explains an error is 2, with one line.
    """
    try:
        from d2csr.cli.app import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except MemoryError:
        remedy = "Raise the limit of `ulimit -v`, or close other programs."
        sys.stderr.write(f"error: memory: is too small to load d2csr. {remedy}\n")
        return 2


if __name__ == "__main__":
    sys.exit(run())
