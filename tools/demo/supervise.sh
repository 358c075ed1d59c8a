# Sourced by the first process of a private libvirt host: runs libvirtd with the given
# arguments and starts it again when it is killed, unless $dir/hold exists (tests use that
# to keep a host away). Needs $dir.
supervise() {
    trap 'exit 0' TERM INT
    while :; do
        /usr/sbin/libvirtd "$@" >>"$dir/log/libvirtd.out" 2>&1 &
        libvirtd=$!
        # Children that outlive libvirtd come to us; only libvirtd's own end matters.
        code=0
        wait "$libvirtd" || code=$?
        while kill -0 "$libvirtd" 2>/dev/null; do
            wait "$libvirtd" || code=$?
        done
        if [ "$code" -lt 128 ]; then
            echo "libvirtd ended by itself with status $code" >&2
            exit 1
        fi
        while [ -e "$dir/hold" ]; do
            sleep 0.1
        done
    done
}
