"""The whole study at its true counts with stand-ins for all that takes a GPU or an API, and what that shows."""
