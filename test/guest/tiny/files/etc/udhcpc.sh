#!/bin/sh
# udhcpc's script: the lease is in its variables.
case $1 in
deconfig)
	ip addr flush dev "$interface"
	;;
bound | renew)
	[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
	ip addr flush dev "$interface"
	ip addr add "$ip/${mask:-32}" dev "$interface"
	if [ -n "$staticroutes" ]; then
		# RFC 3442: these replace the router option.
		set -- $staticroutes
		while [ $# -ge 2 ]; do
			if [ "$2" = 0.0.0.0 ]; then
				ip route replace "$1" dev "$interface"
			else
				ip route replace "$2" dev "$interface"
				ip route replace "$1" via "$2" dev "$interface"
			fi
			shift 2
		done
	else
		for r in $router; do
			# The router need not be in the subnet.
			ip route replace "$r" dev "$interface"
			ip route replace default via "$r" dev "$interface"
			break
		done
	fi
	if [ -n "$dns" ]; then
		{
			[ -z "${search:-$domain}" ] || echo "search ${search:-$domain}"
			for s in $dns; do echo "nameserver $s"; done
			[ -z "$search" ] || echo "options ndots:5"
		} >/etc/resolv.conf
	fi
	[ -z "$hostname" ] || hostname "$hostname"
	echo "$ip" >"/run/net.$interface"
	read -r up idle </proc/uptime
	echo "SKERRY-GUEST ADDRESS $interface $ip/${mask:-32} $up" >/dev/console
	;;
esac
