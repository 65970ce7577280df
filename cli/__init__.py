"""The ``wpg`` command: its subcommands in ``commands``, ``demo`` and ``transfer``, and what they share."""
