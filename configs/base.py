"""Every hyperparameter with its default; other configs import this one and change what differs.

The comment behind a field is what `launch.py --help` prints, under headings that begin with `##`; a comment with one
`#` above a field is added to the field's own. Words in braces, and the fields of methods and partitioners, come from
the tables in scarlet_jax/methods, data and models. Defaults are those of the reference implementation's main branch. A
field that is "open" (None) takes the value named in its comment; `--config.FIELD=open` opens it again.
"""

from typing import Any

from ml_collections import config_dict

from scarlet_jax import data, methods
from scarlet_jax.errors import UserError


def set_method(config: config_dict.ConfigDict, method: str, duration: int, **parameters: Any) -> None:
    """Choose a method by `FILE.py:METHOD` or `FILE.py:METHOD+cache`.

    Args:
      config: to change.
      method: a name of the table, or MODULE:FUNCTION of a method outside the package; `+cache` adds SCARLET's cache.
      duration: rounds for which the cache keeps labels, if the method has a cache of its own or `+cache` adds one.
      **parameters: of the method, fields of config.method.

    Raises:
      UserError: something else follows the method's name.
    """
    config.method.name, _, extra = method.partition("+")
    if extra not in ("", "cache") or method.endswith("+"):
        raise UserError(f"The config's argument is {method!r}; allowed is a method, or METHOD+cache.")
    own = methods.METHODS.get(config.method.name)
    if extra or (own is not None and own.duration):
        config.cache.duration = duration
    with config.unlocked():
        config.method.update(parameters)


def get_config() -> config_dict.ConfigDict:
    """The base configuration: SCARLET on CIFAR-10 with CIFAR-100 as the public pool."""
    config = config_dict.ConfigDict()

    ## Federation
    config.seed = 0  # seed of everything random: partition, weights, draws, augmentation
    config.rounds = 5  # communication rounds
    config.num_clients = 100  # K, clients in the federation
    config.participation = 1.0  # share of the clients that take part in a round; 0.29 of 100 is 29, 1/49 of 49 is 1
    config.sampling = config_dict.ConfigDict()
    config.sampling.by = "uniform"  # how the participants of a round are chosen: uniform (at random), or given
    # Text with a line of ids for each round, or a .json or .npy of them; every round has as many clients of each group
    # as participation says.
    config.sampling.file = ""  # by = given: the ids of the clients that take part in each round, from 0
    config.public_size = 10_000  # N, images in the shared unlabelled public pool, validation part included
    config.public_per_round = 1_000  # P, public images drawn in a round, without replacement
    config.eval_every = 1  # evaluate server and clients every so many rounds, and in the last
    config.eval_clients = "participants"  # which clients are evaluated: the round's participants, or all
    config.same_init = True  # all clients and the server start from the same weights (per architecture)

    ## Local training: cross-entropy on private images
    config.epochs = 5  # epochs per round
    config.batch_size = 50  # images per step; the last batch of an epoch may be smaller
    config.optimizer = "sgd"  # {optimizers}
    # A rate that is set is used with any optimizer; one above 0.01 with adam is pointed out before the run starts.
    config.lr = config_dict.placeholder(float)  # learning rate (open: {rates})
    config.momentum = 0.0  # SGD momentum, 0 is plain SGD; adam has none
    config.weight_decay = 0.0  # L2 penalty, added to the gradient; with adam before its moments, as in torch's Adam

    ## Distillation: KL(target || prediction) on public images
    config.kd_epochs = 5  # epochs per round, for clients and for the server
    config.kd_batch_size = 50  # images per step
    config.kd_optimizer = config_dict.placeholder(str)  # {optimizers} (open: as optimizer)
    config.kd_lr = config_dict.placeholder(float)  # learning rate (open: {rates})
    config.kd_momentum = 0.0  # SGD momentum
    config.kd_weight_decay = 0.0  # L2 penalty

    ## Learning rates over the rounds
    # cosine: falls along half a cosine from 1 to nearly 0 over lr_horizon. step: times lr_gamma at each milestone.
    config.lr_schedule = "constant"  # factor of lr and kd_lr by the round: {schedules}
    # Raising the rounds of a run does not move its horizon. Beyond it the rates stay at their last values.
    config.lr_horizon = config_dict.placeholder(int)  # cosine: rounds (open: the rounds of the run's first start)
    config.lr_milestones = config_dict.placeholder(str)  # step: rounds, counted from 0 and ascending, as 100,150
    config.lr_gamma = 0.1  # step: factor at each milestone

    ## Ending a run before its last round; it is then complete
    config.stop = config_dict.ConfigDict()
    # Only evaluated rounds count. More rounds do not continue a run that has ended; a higher bound, or none, does.
    config.stop.server_top1 = config_dict.placeholder(float)  # top-1 of the server model, from 0 to 1 (open: no bound)
    config.stop.client_top1 = config_dict.placeholder(float)  # mean top-1 of the clients evaluated (open: no bound)
    config.stop.megabytes = config_dict.placeholder(float)  # 10^6 B, up and down, reference ledger (open: no bound)

    ## Data: which images, and how they are augmented
    config.private_augment = True  # augment private images while training
    config.public_augment = True  # augment public images, both when predicting and when distilling
    config.private_val_ratio = 0.0  # share of each client's private images held out for validation
    config.public_val_ratio = 0.0  # share of the public pool held out for validation
    config.data = config_dict.ConfigDict()
    config.data.private = "cifar10"  # private data set: digits, a TFDS name, or a path to an .npz (image, label)
    config.data.public = "cifar100"  # public data set, its labels unused; equal to private: carved out of it
    config.data.dir = ""  # where data sets are looked for; empty = $TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.data.cache_dir = ""  # decoded images; empty = $XDG_CACHE_HOME/scarlet_jax, else ~/.cache/scarlet_jax
    config.data.train_size = 0  # use a seeded random part of the private training images; 0 = all
    config.data.test_size = 0  # use a seeded random part of the test images; 0 = all
    # Images above the budget stay on the host, and each block of clients is sent its own. Always on the devices are the
    # images of a method that trains on all of them at once, and public images that are held out for validation.
    config.data.device_budget_mb = 0.0  # MB of images that may lie on each device; 0 = no bound
    config.data.flip = True  # augmentation: random horizontal flip
    config.data.crop = True  # augmentation: random crop after padding with black by an eighth of the side (4 at 32)

    ## Partition: which client holds which private images
    config.partition = config_dict.ConfigDict()
    config.partition.name = "dirichlet"  # {partitions}
    for name, own in data.parameters().items():
        config.partition[name] = own.default
    config.partition.seed = config_dict.placeholder(int)  # split and pool are drawn by it (open: seed)

    ## Models
    config.model = config_dict.ConfigDict()
    config.model.client = "resnet20"  # client architecture ({models}), or groups: resnet20:60,cnn:40
    # With feddf it is one of the clients' architectures: the one whose server model load_server returns.
    config.model.server = "resnet20"  # server architecture
    # auto: native on CPU; on GPU grouped or triton, whichever takes less time for a training step. timed: the fastest
    # for each shape. Both are measured once and kept. Or one of {convolutions}.
    config.model.conv = "auto"  # implementation of the convolution
    # float32: exact on every device. tf32: stored in float32, multiplied in TF32 (10 bits) by NVIDIA GPUs, exactly by
    # others. bfloat16: images and activations are stored and multiplied in bfloat16. What is trained stays float32.
    config.model.precision = config_dict.placeholder(str)  # float32, tf32, bfloat16 (open: tf32 on GPUs, else float32)

    ## Method; an open field takes the method's own default, a field the method does not have is refused
    config.method = config_dict.ConfigDict()
    config.method.name = "scarlet"  # which method of the comparison: {methods}
    for name, parameter in methods.parameters().items():
        config.method[name] = config_dict.placeholder(parameter.kind)

    ## Soft-label cache
    config.cache = config_dict.ConfigDict()
    config.cache.duration = config_dict.placeholder(int)  # D, rounds; 0 = no cache (open: {durations})
    config.cache.on_expiry = "drop"  # drop: an expired entry is emptied (paper); refresh: replaced at once
    config.cache.ratio = 1.0  # share of a round's new labels that is stored

    ## Communication
    config.comm = config_dict.ConfigDict()
    config.comm.label_bits = 32  # bits per probability on the wire: 32 (float32), 16 or 8 (uniform quantiser)

    ## Execution; changes speed and memory, not results
    config.clients_per_chunk = 0  # clients trained together on a device, at most those of a group; 0 = chosen
    config.remat = False  # ResNets: compute blocks again for the gradient instead of keeping them; saves GPU memory
    config.deterministic = False  # GPU: the same bits in every run, for some speed (XLA's deterministic operations)
    config.compilation_cache = True  # GPU: keep compiled programs, in the cache folder, for later starts of any run
    config.profile_rounds = ""  # trace these rounds into WORKDIR/profile: 3:5 is the rounds 3 and 4, counted from 0

    ## Records
    config.checkpoint = config_dict.ConfigDict()
    config.checkpoint.every = 10  # rounds between checkpoints; the last round is always saved
    config.checkpoint.keep = 2  # newest checkpoints kept
    config.wandb = config_dict.ConfigDict()
    config.wandb.mode = "off"  # off, offline or online: mirror the metrics to Weights & Biases (extra: wandb)
    config.wandb.project = "scarlet_jax"  # Weights & Biases project

    return config.lock()
