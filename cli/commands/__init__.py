"""The subcommands of ``wpg``, one module each; ``demo`` and ``transfer`` have packages of their own."""
