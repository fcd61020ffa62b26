r"""Tiny ImageNet (private) and Caltech-256 (public): the paper's experiments.

Source:  Azuma et al., IEEE TMC 2026, arXiv 2504.19602; hyperparameters of the reference implementation's experiment
         branch (configs/paper/common.py). ResNet-18 and its starting weights are torchvision's, as there. The same
         values as for CIFAR-10 are our choice. With --config.model.client=resnet18_64
         --config.model.server=resnet18_64 the stem suits 64x64 pixels: all other layers see 16 times the pixels.
Command: python launch.py --config=configs/paper/tiny_imagenet.py
         (other methods: configs/paper/tiny_imagenet.py:dsfl, configs/paper/tiny_imagenet.py:dsfl+cache, ...;
         and alpha 0.05: --config.partition.alpha=0.05 --workdir=runs/paper-tiny_imagenet-a0.05)
         One command for each experiment of the paper, for alpha = 0.3; values in lists are our choice:
  methods compared
    python -m scarlet_jax.sweep --config=configs/paper/tiny_imagenet.py --out=runs/paper-tiny_imagenet-methods \
      --methods=scarlet,dsfl,cfd,comet,selective_fd,individual
  beta
    for b in 0.5 1.0 1.5 2.0 2.5; do python launch.py --config=configs/paper/tiny_imagenet.py \
      --config.method.beta=$b --workdir=runs/paper-tiny_imagenet-beta$b; done
  D
    for d in 0 10 25 50 100 200; do python launch.py --config=configs/paper/tiny_imagenet.py \
      --config.cache.duration=$d --workdir=runs/paper-tiny_imagenet-D$d; done
  the cache added to the baselines
    python -m scarlet_jax.sweep --config=configs/paper/tiny_imagenet.py --out=runs/paper-tiny_imagenet-cached \
      --methods=dsfl,dsfl+cache,cfd,cfd+cache,comet,comet+cache,selective_fd,selective_fd+cache
  partial participation
    for p in 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0; do python launch.py --config=configs/paper/tiny_imagenet.py \
      --config.participation=$p --workdir=runs/paper-tiny_imagenet-p$p; done
  number of clients
    for k in 10 50 100 200; do python launch.py --config=configs/paper/tiny_imagenet.py \
      --config.num_clients=$k --workdir=runs/paper-tiny_imagenet-K$k; done
Time:    for a GPU, where it has not been run yet.
Result:  not run.
"""

from ml_collections import config_dict

from scarlet_jax.configs.paper import common


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """100 clients; ResNet-18 as in torchvision; the pool is brought to 64x64 pixels."""
    config = common.get_config(method)
    config.data.private = "tiny_imagenet"
    config.data.public = "caltech256"
    config.model.client = config.model.server = "resnet18_torchvision"
    return config
