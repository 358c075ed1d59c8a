#!/bin/sh
# The first process of a private libvirt host. lab.py starts it in namespaces of its own:
#
#   unshare --mount --net --uts --ipc --pid --fork  inside.sh DIR HOSTNAME
#
# It hides everything of the machine that libvirtd would touch behind directories of
# DIR, then supervises libvirtd. When this process ends, the kernel ends everything in
# the pid namespace: libvirtd, dnsmasq and every QEMU.
#
# Mounts (all private to this namespace):
#   DIR/run -> /run/libvirt      the socket, reachable from outside as DIR/run/libvirt-sock
#   DIR/etc -> /etc/libvirt      our configuration
#   DIR/{lib,cache,log} -> /var/{lib,cache,log}/libvirt
#   /dev                         without kvm: libvirt offers type='qemu' alone
#   /sys, /proc                  of the new network and pid namespaces
set -eu

dir=$1
name=$2
. "$(dirname "$0")/supervise.sh"

mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys

# A /dev of our own, made before the old one is covered.
dev=$dir/dev
mount -t tmpfs -o mode=755 tmpfs "$dev"
for node in null zero full random urandom tty; do
    : >"$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
done
mkdir "$dev/pts" "$dev/shm" "$dev/net"
if [ -e /dev/net/tun ]; then
    : >"$dev/net/tun"
    mount --bind /dev/net/tun "$dev/net/tun"
fi
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$dev/pts"
ln -s pts/ptmx "$dev/ptmx"
ln -s /proc/self/fd "$dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$dev/shm"
mount --move "$dev" /dev

mount -t tmpfs -o mode=755 tmpfs "$dir/empty"
mkdir "$dir/empty/libvirt" "$dir/empty/lock"
mount --bind "$dir/run" "$dir/empty/libvirt"
mount --rbind "$dir/empty" /run
for pair in etc:/etc/libvirt lib:/var/lib/libvirt cache:/var/cache/libvirt log:/var/log/libvirt; do
    mount --bind "$dir/${pair%%:*}" "${pair#*:}"
done
mount --bind "$dir/etc/hosts" /etc/hosts
mount --bind "$dir/etc/passwd" /etc/passwd
mount --bind "$dir/etc/group" /etc/group

hostname "$name"
ip link set lo up

supervise
