"""One file per method: only what that method changes."""
