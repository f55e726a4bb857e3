"""`python -m experiments`, with the toy experiment of this folder among the others."""

import sys
from pathlib import Path

import experiments
from experiments.__main__ import main

experiments.__path__.append(str(Path(__file__).parent))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
