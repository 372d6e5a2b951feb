"""The `modpo` commands: parse, call, render.

A command's module is loaded for that command alone. What would bring pandas or matplotlib with it is imported where it
is used, so that help and refusals come at once.
"""
