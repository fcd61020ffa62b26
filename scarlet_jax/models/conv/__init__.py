"""The convolution: one function with several implementations."""
