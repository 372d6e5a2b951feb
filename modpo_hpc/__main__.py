"""``python -m modpo_hpc`` is ``modpo``."""

import sys

from modpo_hpc.cli.main import main

sys.exit(main())
