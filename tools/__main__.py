"""Lists the commands: python -m tools."""

import ast
from pathlib import Path

from tools.cli.terminal import shorten, terminal_width


def main() -> None:
    """Prints each command with the first sentence of its docstring."""
    print("python -m tools.NAME --help explains a command:\n")
    width = terminal_width()
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        print(shorten(f"  {file.stem:<14} {text.splitlines()[0]}", width))


if __name__ == "__main__":
    main()
