"""Stage data of contrastive modularity: speakers as in deep clustering; digits and noises where asked for."""

import sys

from pse.cli import guarded
from pse.recipe.runner import main
from pse.recipe.separation.data import tasks

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("data", tasks, sys.argv[1:], [sys.executable, __file__])))
