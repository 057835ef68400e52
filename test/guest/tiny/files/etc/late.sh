#!/bin/sh
# What need not be there at once, then the data that the platform gave this guest:
# a file system labelled cidata (NoCloud) or config-2 (ConfigDrive). Its host name
# is taken and its user data is run if it is a script.
modprobe -a $(cat /etc/modules.late)

find_data() {
	for label in cidata CIDATA config-2; do
		findfs "LABEL=$label" 2>/dev/null && return
	done
	# busybox reads an ISO image's Joliet label with its padding and finds nothing:
	# the primary descriptor's (ECMA-119, 8.4.7) is at byte 32808.
	for disk in /dev/vd? /dev/sd? /dev/sr?; do
		[ -b "$disk" ] || continue
		case $(dd if="$disk" bs=1 skip=32808 count=8 2>/dev/null) in
		cidata* | config-2*) echo "$disk" && return ;;
		esac
	done
	return 1
}

# SCSI disks turn up some time after their adapter.
tries=0
until dev=$(find_data); do
	tries=$((tries + 1))
	[ -d /sys/class/scsi_host/host0 ] && [ $tries -lt 20 ] || exit 0
	usleep 100000
done
mkdir -p /run/data
mount -o ro "$dev" /run/data || exit 1
echo "SKERRY-GUEST DATA $dev"
meta=/run/data/meta-data user=/run/data/user-data
if [ -e /run/data/openstack/latest/meta_data.json ]; then
	meta=/run/data/openstack/latest/meta_data.json user=/run/data/openstack/latest/user_data
fi
name=$(sed -n 's/^.*"\{0,1\}\(local-hostname\|hostname\)"\{0,1\} *: *"\{0,1\}\([A-Za-z0-9.-]*\).*$/\2/p' $meta | head -n 1)
[ -z "$name" ] || hostname "$name"

[ -s $user ] || exit 0
read -r first <$user
case $first in
'#!'*) ;;
*)
	echo "SKERRY-GUEST USER-DATA is not a script"
	exit 0
	;;
esac
# Scripts expect the network; without one they are run all the same.
tries=0
while [ -d /sys/class/net/eth0 ] && [ ! -e /run/net.eth0 ] && [ $tries -lt 200 ]; do
	tries=$((tries + 1))
	usleep 100000
done
cp $user /run/user-data
chmod 700 /run/user-data
/run/user-data
echo "SKERRY-GUEST USER-DATA exit=$?"
