#!/bin/sh
read -r up idle </proc/uptime
printf 'Content-Type: text/plain\r\n\r\n'
echo "hostname $(hostname)"
echo "uptime $up"
echo "client $REMOTE_ADDR"
