"""Errors that are the user's to fix."""


class UserError(Exception):
    """One clear sentence about something the user can change; shown without a traceback, exit code 1."""
