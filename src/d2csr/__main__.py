"""Entry point of `python -m d2csr`."""

import sys

from d2csr.cli.app import main

sys.exit(main())
