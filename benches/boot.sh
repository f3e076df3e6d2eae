#!/usr/bin/env bash
# Process 1 in figures: its private memory, and the time from the end of stage 1 until 25 services run,
# for runit and for outlast, each in the same virtual machine. See benches/README.md.
#
#   OUTLAST_VM=path/to/vm.py benches/boot.sh path/to/outlast [rounds]
#
# Needs runit's programs on this machine. Nothing is asserted.
set -euo pipefail
outlast=$(realpath "${1:?the program to be measured}")
rounds=${2:-5}
vm=${OUTLAST_VM:?names the program that boots a machine}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

script() { # FILE, its lines from stdin
	mkdir -p "${1%/*}"
	{ printf '#!/bin/sh\nPATH=/usr/bin:/usr/sbin:/bin:/sbin\n'; cat; } >"$1"
	chmod 755 "$1"
}

# What all have: 25 services that write down when they run, and one that tells.
world() { # DIR
	local name
	for name in $(seq 1 25); do
		script "$1/etc/service/s$name/run" <<-'END'
			read now _ </proc/uptime; echo $now >/tmp/up.${PWD##*/}
			exec sleep 100000
		END
	done
	script "$1/etc/service/teller/run" <<-'END'
		[ -e /tmp/told ] && exec sleep 100000
		: >/tmp/told
		while [ $(ls /tmp/up.* | wc -l) -lt 25 ]; do usleep 50000; done
		usleep 2000000
		end=$(cat /tmp/up.* | sort -n | tail -n 1)
		private() { awk '/^Private/ { sum += $2 } END { print sum }' /proc/1/smaps_rollup; }
		anonymous() { awk '/^Anonymous/ { print $2 }' /proc/1/smaps_rollup; }
		figures="up $(cat /tmp/begin) $end private $(private) anonymous $(anonymous)"
		if [ -e /tmp/restarts ]; then
			n=0
			for many in 10 100 1000; do
				while [ $n -lt $many ]; do outlast restart s1 >/dev/null; n=$((n+1)); done
				figures="$figures after-$many-restarts $(private) $(anonymous)"
			done
		fi
		echo "figures: $figures" >/dev/console
		echo o >/proc/sysrq-trigger
	END
}

stages() { # DIR
	script "$1/etc/runit/1" <<-'END'
		mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs run /run
		mount -t devtmpfs dev /dev; mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
		read now _ </proc/uptime; echo $now >/tmp/begin
	END
	script "$1/etc/runit/2" <<-'END'
		exec env - PATH=$PATH runsvdir -P /etc/service
	END
}

runit=$scratch/runit ours=$scratch/ours built_in=$scratch/built-in
world "$runit"; stages "$runit"
mkdir -p "$runit/usr/bin" "$runit/sbin"
cp "$(command -v runsv)" "$(command -v runsvdir)" "$runit/usr/bin"
cp "$(PATH=/sbin:/usr/sbin:$PATH command -v runit)" "$runit/sbin/init"

for dir in "$ours" "$built_in"; do
	world "$dir"
	mkdir -p "$dir/usr/bin" "$dir/sbin"
	cp "$outlast" "$dir/usr/bin/outlast"
	ln -s /usr/bin/outlast "$dir/sbin/init"
done
stages "$ours"
ln -s outlast "$ours/usr/bin/runsv"
ln -s outlast "$ours/usr/bin/runsvdir"
script "$built_in/etc/outlast/boot" <<-'END'
	read now _ </proc/uptime; echo $now >/tmp/begin
END

measure() { # NAME DIR
	python3 "$vm" "$2" --timeout 600 --icount --append sysrq_always_enabled=1 </dev/null |
		tr -d '\r' | sed -n "s/^figures: up /$1 /p"
}

echo "name, seconds of uptime at the end of stage 1 and when 25 ran, private and anonymous memory of process 1 (kB)"
for ((round = 0; round < rounds; round++)); do
	measure runit "$runit"
	measure outlast-with-runits-stages "$ours"
	measure outlast-built-in "$built_in"
done
mkdir -p "$built_in/tmp"
: >"$built_in/tmp/restarts"
measure outlast-built-in "$built_in"
