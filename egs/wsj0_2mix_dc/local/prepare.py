"""Stage data of deep clustering: WSJ0's own split and the published lists, or speakers drawn from another corpus."""

import sys

from pse.cli import guarded
from pse.recipe.runner import main
from pse.recipe.separation.data import tasks

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("data", tasks, sys.argv[1:], [sys.executable, __file__])))
