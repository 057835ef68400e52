#!/bin/sh
# Brings up one network device by DHCP; guestd runs it for each that appears.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
ip link set "$1" up
exec udhcpc -f -i "$1" -s /etc/udhcpc.sh -t 10 -T 1 -A 2 \
	-O hostname -O search -O mtu -O staticroutes >"/run/udhcpc.$1.log" 2>&1
