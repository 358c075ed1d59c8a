#!/bin/bash
# Installs the Debian packages that building, the demo and the tests need: only what is
# missing. Quick when there is nothing to do. Starts no service: libvirtd itself is taken
# without the package that would run it as the machine's own (libvirt-daemon-system).
set -euo pipefail

packages=(
    libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients   # the private libvirtd, and virsh with its esx driver
    qemu-system-x86 qemu-utils                                  # the guests
    dnsmasq-base iptables iproute2                              # the private network
    python3-venv util-linux                                     # the Python environment; unshare and setpriv
    dmidecode                                                   # libvirt reads the host's maker and model with it
)

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
# Rust and Go link with a C compiler; any one will do.
command -v cc >/dev/null || missing+=(gcc libc6-dev)
# A Python that is not Debian's own brings its venv along.
if python3 -c 'import ensurepip, venv' 2>/dev/null; then
    kept=()
    for package in "${missing[@]}"; do
        [ "$package" = python3-venv ] || kept+=("$package")
    done
    missing=("${kept[@]}")
fi
lists_known() { apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; }

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
fi
root_or_say() {
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        echo "setup: expected root, or sudo without a password, to $1. Run as root: apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
}

if [ ${#missing[@]} -eq 0 ] && lists_known; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "setup: expected Debian 12 with apt-get; install these by hand: ${missing[*]}" >&2
    exit 1
fi
root_or_say "install packages"
"${as_root[@]}" apt-get -q update
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}" >&2
    # policy-rc.d says 'no' to every service start while this runs, and is taken away again.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
        "${as_root[@]}" chmod 755 $policy
        trap '"${as_root[@]}" rm -f $policy' EXIT
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"
fi
virsh -V | grep -q '\bESX\b' || { echo "setup: this virsh has no esx driver (virsh -V); Debian 12's libvirt-clients has one" >&2; exit 1; }
