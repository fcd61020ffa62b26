"""The experiments of the paper, one file for each private data set."""
