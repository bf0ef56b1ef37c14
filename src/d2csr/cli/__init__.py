"""Command line: one thin file a command, imported when the command is called."""
