"""The convolution `triton`: for NVIDIA GPUs, fused with the statistics and the gradients of the BatchNorm around it.

`fused` is what layers use; `launches` says which shapes are covered and how kernels are launched; `primitive` calls
them from JAX, and is XLA's own convolution where there is no NVIDIA GPU; only `kernels` needs Triton.
"""
