"""`python -m uyir` is the `uyir` command."""

import sys

from uyir.cli import main

sys.exit(main())
