#!/usr/bin/env bash
# Installs the Debian packages that building, running and testing Skerry need,
# if any is missing. Each stands here once, with what needs it.
set -euo pipefail
packages=(
	gcc libc6-dev      # the pause image's one C file; the race detector
	make git tar ca-certificates
	runc               # containers
	nftables           # kube-proxy, CNI plugins, the pods' masquerade
	conntrack          # kube-proxy
	iproute2 procps kmod mount util-linux # kubelet, tests
	mmdebstrap debian-archive-keyring # the launcher and guest images
	openssh-client     # skerry ssh
	e2fsprogs          # the storage pool: ext4 volumes; tests: a data directory on a disk of its own
	xfsprogs           # the storage pool
)
missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "these Debian packages are missing; install them as root: apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Where only root may write to /dev/null (some containers), apt's own user cannot
# check signatures.
apt=(-o DPkg::Lock::Timeout=600)
[ "$(stat -c %a /dev/null)" = 666 ] || apt+=(-o APT::Sandbox::User=root)
apt-get update -q "${apt[@]}" >/dev/null
apt-get install -q -y --no-install-recommends "${apt[@]}" "${missing[@]}" >/dev/null
