//! Finds what a configuration leaves out: the mapping files, a local libvirt.

use std::path::{Path, PathBuf};

/// Where the mapping files are: as configured, else `HYPERGLOT_MAPPINGS`, else `mappings` here, beside the program or above it.
pub fn mappings(configured: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(dir) = configured {
        return Ok(dir.to_owned());
    }
    if let Some(dir) = std::env::var_os("HYPERGLOT_MAPPINGS") {
        return Ok(PathBuf::from(dir));
    }
    let program = std::env::current_exe().unwrap_or_default();
    let above =
        program.ancestors().skip(1).flat_map(|d| [d.join("mappings"), d.join("share/hyperglot/mappings")]);
    std::iter::once(PathBuf::from("mappings")).chain(above).find(|d| d.join("vsphere").is_dir()).ok_or_else(
        || {
            "no mapping files: expected a directory `mappings` here or beside the program; \
         say where it is with `mappings = \"DIR\"` in the configuration or HYPERGLOT_MAPPINGS"
                .to_owned()
        },
    )
}

/// The sockets a local libvirt listens on, most likely first, and the uri each means.
const SOCKETS: &[(&str, &str)] = &[
    ("/run/libvirt/libvirt-sock", "qemu:///system"),
    ("/run/libvirt/virtqemud-sock", "qemu:///system"),
    ("/var/run/libvirt/libvirt-sock", "qemu:///system"),
];

/// The uri of a local libvirt and the socket it was found by.
pub fn libvirt() -> Option<(String, PathBuf)> {
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(|d| Path::new(&d).join("libvirt"));
    let session = session.into_iter().flat_map(|d| [d.join("libvirt-sock"), d.join("virtqemud-sock")]);
    let system = SOCKETS.iter().map(|(socket, uri)| (PathBuf::from(socket), (*uri).to_owned()));
    system
        .chain(session.map(|socket| (socket, "qemu:///session".to_owned())))
        .find(|(socket, _)| socket.exists())
        .map(|(socket, uri)| {
            (format!("{}?socket={}", uri.replacen("qemu:", "qemu+unix:", 1), socket.display()), socket)
        })
}
