"""What ends a bench."""


class Lost(Exception):
    """What arrived is not what was sent: the figures would be of something else than relay."""
