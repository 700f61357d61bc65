"""One module a command: the command's arguments, and calls of the rooms that do the work."""
