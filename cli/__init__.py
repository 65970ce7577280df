"""The ``wpg`` command; one module a subcommand."""
