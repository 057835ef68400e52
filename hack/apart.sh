#!/usr/bin/env bash
# apart.sh NAME DIR COMMAND...: runs a command in a network and a mount namespace of
# its own, so that a cluster in there neither sees nor disturbs one that runs on
# this machine: they would share kube-proxy's tables and the directory that every
# kubelet has for device plugins. What is left in there when the command ends,
# however it ends, is removed. KEEP=1 keeps DIR.
set -euo pipefail
name=$1 dir=$2
shift 2
mkdir -p "$dir"
exec 9>"$dir.lock"
flock -n 9 || { echo "another run holds $dir.lock" >&2; exit 1; }
# A reset outside would otherwise remove the empty directory that is mounted over
# inside, which takes the mount away with it.
keep=/var/lib/kubelet/.$name
clean() {
	rm -f "$keep"
	rmdir /var/lib/kubelet 2>/dev/null || true
	[ -e "/run/netns/$name" ] || return 0
	# Processes hold the namespaces; with them go the mounts.
	nsenter --net="/run/netns/$name" "$SKERRY_BIN/skerry" reset --yes --data-dir "$dir/data" --run-dir "$dir/run" >/dev/null 2>&1 9>&- || true
	ip netns del "$name" || true
	[ -n "${KEEP:-}" ] || rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM
clean
mkdir -p "$dir/var-lib-kubelet" /var/lib/kubelet
touch "$keep"
ip netns add "$name"
nsenter --net="/run/netns/$name" ip link set lo up
nsenter --net="/run/netns/$name" unshare --mount --propagation slave \
	bash -c 'mount --bind "$0/var-lib-kubelet" /var/lib/kubelet && exec "$@"' "$dir" "$@" 9>&-
