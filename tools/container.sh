#!/usr/bin/env bash
# Builds the image where there is no Docker, runs an experiment in it, and checks what that leaves behind.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/container.sh

Makes a base image of Debian's packages, builds the Dockerfile on it, trains configs/digits.py in it for two rounds as
the image's unprivileged user, and checks what that leaves on the volume. All is made in $TMPDIR (6 GB) and removed at
the end. For root on Debian, with mmdebstrap and buildah; three minutes.

Environment:
  SUITE, MIRROR        Debian's: bookworm, http://deb.debian.org/debian
  EXTRAS, PACKAGES     build arguments of the Dockerfile
  PIP_INDEX_URL, ...   and pip's configuration here: the index that the build installs from (otherwise PyPI)
TEXT
}

fail() {
  echo "tools/container.sh: $1" >&2
  exit 1
}

# As a pip.conf: the index of this machine's pip, and the certificates that this machine trusts.
pip_configuration() {
  local key name value word words
  echo "[global]"
  echo "cert = /run/secrets/ca"
  for key in index-url extra-index-url trusted-host; do
    words=()
    name=PIP_${key^^}
    name=${name//-/_}
    value=${!name:-$(python3 -m pip config get "global.$key" 2>/dev/null || true)}
    for word in $value; do
      case $word in
        file:*) ;; # a folder of this machine, which the build does not see
        *) words+=("$word") ;;
      esac
    done
    if [ ${#words[@]} -gt 0 ]; then echo "$key = ${words[*]}"; fi
  done
}

build_base() {
  local container
  mmdebstrap --quiet --variant=apt --include=python3,python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "${SUITE:-bookworm}" "$work/base.tar" \
    "${MIRROR:-http://deb.debian.org/debian}"
  container=$(images from scratch)
  images add --quiet "$container" "$work/base.tar" / >/dev/null
  images commit --quiet --rm "$container" "$base" >/dev/null
  rm "$work/base.tar"
}

build_image() {
  pip_configuration >"$work/pip.conf"
  images bud --isolation chroot --build-arg BASE="$base" \
    --build-arg EXTRAS="${EXTRAS:-}" --build-arg PACKAGES="${PACKAGES:-}" \
    --build-arg COMMIT="$(git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null || true)" \
    --secret id=pip,src="$work/pip.conf" --secret id=ca,src="$certificates" --tag "$image" .
}

# What `docker run --volume "$volume:/runs" IMAGE ARGUMENT...` would do; `buildah run` leaves the entry point out.
run_image() {
  local container entry
  mapfile -t entry < <(images inspect --type image --format '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}' "$image" | grep .)
  container=$(images from --pull-never "$image")
  images run --isolation chroot --volume "$volume:/runs" "$container" -- "${entry[@]}" "$@"
}

check_run() {
  local summary="$volume/digits/summary.json" foreign
  [ -f "$summary" ] || fail "the run left no summary.json on the volume."
  grep -q '"complete": true' "$summary" || fail "the run is not complete: $(cat "$summary")"
  foreign=$(find "$volume/digits" ! -uid "${user%%:*}" -print -quit)
  [ -z "$foreign" ] || fail "$foreign does not belong to user ${user%%:*}."
  [ "${user%%:*}" != 0 ] || fail "the image's user is root."
}

case "${1:-}" in
  -h | --help) usage && exit ;;
  ?*) usage >&2 && exit 2 ;;
esac
[ "$(id -u)" = 0 ] || fail "only root can make the base image and change into it."
for tool in mmdebstrap buildah; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install mmdebstrap buildah."
done
certificates=/etc/ssl/certs/ca-certificates.crt
[ -f "$certificates" ] || fail "$certificates is missing: apt-get install ca-certificates."

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
volume=$work/volume
mkdir "$volume"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
base=localhost/scarlet-base
image=localhost/scarlet
images() { buildah --storage-driver vfs --root "$work/storage" --runroot "$work/state" "$@"; }

echo "base image: Debian's packages"
build_base
echo "image: $image"
build_image
user=$(images inspect --type image --format '{{.OCIv1.Config.User}}' "$image")
chown "$user" "$volume"
echo "run, as user $user"
run_image --config=configs/digits.py --config.rounds=2 --workdir=/runs/digits
check_run
echo "left on the volume:"
ls -ln "$volume/digits"
images images
