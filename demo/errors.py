"""The error that the demo shows its user in one line."""


class DemoError(Exception):
    """The demo cannot go on; the message is one line that names the thing and the reason."""
