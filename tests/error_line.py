"""How the command line says what went wrong."""


def only_line(text: str) -> str:
    """The error as printed: one line that starts with the program's name."""
    (line,) = [line for line in text.splitlines() if line.startswith("wpg: ")]
    return line
