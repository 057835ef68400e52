#!/usr/bin/env bash
# From nothing to a command run over ssh in a Debian guest. May be run again and
# again: what is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
skerry=build/bin/skerry
dir=build/demo
mkdir -p $dir
begin=$(date +%s.%N)
say() { printf '\n\033[1m▸ %s\033[0m  (%.1f s)\n' "$1" "$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN{print b-a}')"; }
run() { printf '$ %s\n' "$*"; "$@"; }
until_true() { # until_true SECONDS WHAT COMMAND...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >$dir/last 2>&1; do
		if [ $SECONDS -ge $end ]; then
			echo "gave up waiting for $what; the last answer was:" >&2
			cat $dir/last >&2
			exit 1
		fi
		sleep 1
	done
}

say "bring up the cluster"
run $skerry up --detach
$skerry image import build/test-images/*.tar

say "a container and a virtual machine"
[ -f $dir/id ] || ssh-keygen -q -t ed25519 -N '' -C skerry-demo -f $dir/id
sed "s|KEY|$(cat $dir/id.pub)|" hack/demo/objects.yaml | $skerry kubectl apply -f -
until_true 300 "the machine to run" $skerry kubectl -n demo wait --for=condition=Ready --timeout=1s pod/web vmi/debian

say "wait for the guest to answer over ssh (emulated guests take about a minute)"
ssh_opts=(-i $dir/id -l debian --local-ssh-opts=-oStrictHostKeyChecking=no --local-ssh-opts=-oUserKnownHostsFile=/dev/null --local-ssh-opts=-oLogLevel=ERROR --local-ssh-opts=-oConnectTimeout=10 --local-ssh-opts=-oBatchMode=yes)
until_true 600 "ssh" $skerry ssh -n demo debian "${ssh_opts[@]}" --command 'cloud-init status --wait >/dev/null 2>&1; true'

say "a command in the guest"
nonce=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
out=$(run $skerry ssh -n demo debian "${ssh_opts[@]}" --command "echo nonce $nonce; uname -srm; uptime -p; nproc; free -m | head -2; curl -s --max-time 20 http://web.demo.svc.cluster.local:8080/")
echo "$out"
grep -q "nonce $nonce" <<<"$out" || { echo "the guest did not answer with the nonce $nonce" >&2; exit 1; }
grep -q 'hello from a container' <<<"$out" || { echo "the guest did not reach the container by its Service's name" >&2; exit 1; }

say "the container reaches the machine by its Service's name"
banner=$(run $skerry kubectl -n demo exec web -- sh -c 'echo | nc -w 10 debian 22 | head -1')
echo "$banner"
grep -q '^SSH-2.0' <<<"$banner" || { echo "the container did not reach the guest's ssh server" >&2; exit 1; }

say "side by side"
run $skerry kubectl get nodes,pods,vm,vmi -A
run $skerry kubectl -n demo get vmi debian -o jsonpath='{range .status.stages[*]}{.time}{"  "}{.stage}{"\n"}{end}'

say "done"
cat <<EOF
Log in:        $skerry ssh -n demo debian -i $dir/id -l debian
Console:       $skerry console -n demo debian       (leave with ^])
Look around:   $skerry status;  $skerry kubectl get vm,vmi,pods -A
Remove it all: $skerry reset
EOF
