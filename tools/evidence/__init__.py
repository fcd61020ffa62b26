"""The evidence of docs/results: runs it, collects records of the runs, and makes the page from the records."""
