#!/bin/sh
read -r up idle </proc/uptime
echo "SKERRY-GUEST SHUTDOWN $up" >/dev/console
