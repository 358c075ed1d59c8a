#!/bin/bash
# Builds the guest that every test boots: OUTDIR/vmlinuz and OUTDIR/initrd.gz.
#
#   tools/guest/build.sh [OUTDIR]        (default: .hyperglot/guest)
#
# It is Debian's cloud kernel with Debian's static busybox as its whole user space:
# about 5 s to a serial shell under software emulation, `GUEST-READY` on the first
# serial port when it is up, an ACPI power button that shuts it down, a DHCP client.
# Nothing is installed and root is not needed; the packages are downloaded once and
# unpacked. A finished OUTDIR is left alone (the stamp holds this script's checksum).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath -m "${1:-$here/../../.hyperglot/guest}")
stamp=$(sha256sum "$here/build.sh" "$here/init" "$here/inittab" | sha256sum | cut -d' ' -f1)

if [ "$(cat "$out/stamp" 2>/dev/null || echo none)" = "$stamp" ] && [ -s "$out/vmlinuz" ] && [ -s "$out/initrd.gz" ]; then
    exit 0
fi

# One builder at a time; whoever waited finds the work done.
mkdir -p "$out"
exec 9>"$out/lock"
flock 9
if [ "$(cat "$out/stamp" 2>/dev/null || echo none)" = "$stamp" ] && [ -s "$out/vmlinuz" ] && [ -s "$out/initrd.gz" ]; then
    exit 0
fi

work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/deb" "$work/root" "$work/fs"

kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }')
if [ -z "$kernel" ]; then
    echo "guest: apt knows no linux-image-cloud-amd64. Expected Debian's package lists: run 'apt-get update' (make setup does) and try again." >&2
    exit 1
fi
echo "guest: building from $kernel and busybox-static" >&2
# apt's download worker drops root for the user _apt, who must reach this directory.
chmod 755 "$work" "$work/deb"
(cd "$work/deb" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download busybox-static "$kernel")
dpkg -x "$work"/deb/busybox-static_*.deb "$work/root"
dpkg-deb --fsys-tarfile "$work"/deb/"$kernel"_*.deb | tar -x -C "$work/root" ./boot ./lib/modules
busybox=$work/root/bin/busybox

fs=$work/fs
mkdir -p "$fs"/{bin,dev,etc/acpi,lib/modules,mnt,proc,root,run,sys,tmp}
cp "$busybox" "$fs/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$fs/bin/$applet"
done
ln -s bin "$fs/sbin"

# Modules in load order: each names what it needs in its own `depends=` record.
modules=$(echo "$work"/root/lib/modules/*/kernel)
declare -A taken=()
take() {
    local name=$1 file need needs
    [ -z "${taken[$name]:-}" ] || return 0
    taken[$name]=yes
    # File names have - or _ where module names have _.
    file=$(find "$modules" -name "${name//[-_]/[-_]}.ko" -print -quit)
    # A module that this kernel has built in has no file.
    [ -n "$file" ] || return 0
    needs=$(grep -aoz 'depends=[^[:cntrl:]]*' "$file" | tr -d '\0' | sed 's/depends=//; s/,/ /g')
    for need in $needs; do
        take "$need"
    done
    cp "$file" "$fs/lib/modules/"
    basename "$file" >>"$fs/lib/modules/order"
}
for module in button evdev virtio_pci virtio_blk virtio_net virtio_balloon virtio_console virtio_rng virtio_scsi ata_piix sd_mod sr_mod; do
    take "$module"
done
for need in button evdev virtio_blk virtio_net; do
    grep -q "^$need.ko$" "$fs/lib/modules/order" || { echo "guest: $kernel has no module $need.ko, which the guest cannot do without" >&2; exit 1; }
done

install -m 755 "$here/init" "$fs/init"
install -m 644 "$here/inittab" "$fs/etc/inittab"
# The power button: busybox acpid reads the input device's key 116 and runs the action.
echo 'PWRF power.sh' >"$fs/etc/acpid.conf"
echo 'EV_KEY 0x01 KEY_POWER 116 1 PWRF' >"$fs/etc/acpid.map"
printf '#!/bin/sh\npoweroff\n' >"$fs/etc/acpi/power.sh"
chmod 755 "$fs/etc/acpi/power.sh"
echo 'root::0:0:root:/root:/bin/sh' >"$fs/etc/passwd"
echo 'root:x:0:' >"$fs/etc/group"
cat >"$fs/etc/udhcpc.sh" <<'LEASE'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/${mask:-24}" dev "$interface"
[ -z "$router" ] || ip route add default via "$router"
LEASE
chmod 755 "$fs/etc/udhcpc.sh"

(cd "$fs" && find . | LC_ALL=C sort | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -9n >"$out/initrd.gz"
cp "$work"/root/boot/vmlinuz-* "$out/vmlinuz"
echo "$stamp" >"$out/stamp"
echo "guest: $(stat -c '%n %s bytes' "$out/vmlinuz" "$out/initrd.gz" | tr '\n' ' ')" >&2
