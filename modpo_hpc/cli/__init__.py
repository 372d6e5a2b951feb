"""The `modpo` commands: parse, call, render."""
