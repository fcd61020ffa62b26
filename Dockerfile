# Trains federations: docker run IMAGE --config=configs/digits.py. docs/container.md has the commands.
#
# BASE      an image with Python 3.11 or newer, its venv module, and apt (only if PACKAGES is set)
# EXTRAS    of pyproject.toml: cuda12 for NVIDIA GPUs, "cuda12,wandb" for several
# PACKAGES  of Debian: g++ for the native CPU convolution, which is compiled for the processor that it runs on, not here
# COMMIT    of the source, for the run's environment.json
#
# Secrets `pip` (a pip.conf) and `ca` (certificates it may name, as /run/secrets/ca) are for a mirror; no layer keeps them.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG PACKAGES=
RUN if [ -n "$PACKAGES" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends $PACKAGES && \
      apt-get clean && rm -rf /var/lib/apt/lists/*; \
    fi

# Dependencies before the source, so that an edit does not install them again: the environment gets a link to the package,
# of which only the file with its version is here so far.
WORKDIR /app
COPY pyproject.toml constraints.txt ./
COPY scarlet_jax/__init__.py scarlet_jax/
ARG EXTRAS=
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    touch README.md LICENSE && \
    python3 -m venv /opt/venv && \
    PIP_CONFIG_FILE=/run/secrets/pip /opt/venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check \
      -c constraints.txt -e ".${EXTRAS:+[$EXTRAS]}"

COPY . .
# Any --user may read the source and write the volumes; the default workdir, runs/NAME, is on a volume, too.
RUN chmod -R a+rX . && /opt/venv/bin/python -m compileall -q . && install -d -m 1777 /data /runs && ln -s /runs runs

ARG COMMIT=
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp TFDS_DATA_DIR=/data XDG_CACHE_HOME=/runs/.cache \
    SCARLET_COMMIT=$COMMIT
VOLUME /data /runs
USER 1000:1000
# Python is process 1 and gets SIGTERM itself: it finishes the round, saves, and exits with 143.
ENTRYPOINT ["/opt/venv/bin/python", "/app/launch.py"]
CMD ["--help"]
