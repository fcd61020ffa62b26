"""The convolution `triton`: for NVIDIA GPUs, fused with the statistics and the gradients of the BatchNorm around it.

`fused` is what layers use; `launches` says which shapes are covered and how kernels are launched; `primitive` is the
convolution as a JAX primitive, which is XLA's own where there is no NVIDIA GPU; `calls` compiles kernels and keeps
them; only `kernels` imports Triton.
"""
