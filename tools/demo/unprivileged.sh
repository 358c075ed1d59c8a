#!/bin/sh
# The first process of a private libvirt host without root: a session libvirtd in a pid
# namespace of its own, so that everything ends with it. No bridged network (that takes
# root), the machine's own host name, otherwise the same guests. lab.py starts it:
#
#   unshare --user --map-current-user --pid --fork --mount-proc  unprivileged.sh DIR
set -eu
dir=$1
. "$(dirname "$0")/supervise.sh"
export HOME="$dir" XDG_RUNTIME_DIR="$dir/session" XDG_CONFIG_HOME="$dir/session/config"
export XDG_CACHE_HOME="$dir/cache" XDG_DATA_HOME="$dir/session/data"
supervise --config "$dir/etc/libvirtd.conf"
