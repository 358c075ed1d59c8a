//! Finds what a configuration leaves out: the mapping files, a local libvirt.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

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

/// The uri of the first local libvirt that takes connections and its socket; else the sockets that are there and why each does not.
pub fn libvirt() -> Result<(String, PathBuf), Vec<(PathBuf, io::Error)>> {
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(|d| Path::new(&d).join("libvirt"));
    let session = session.into_iter().flat_map(|d| [d.join("libvirt-sock"), d.join("virtqemud-sock")]);
    let system = SOCKETS.iter().map(|(socket, uri)| (PathBuf::from(socket), *uri));
    first_answering(system.chain(session.map(|socket| (socket, "qemu:///session"))))
}

fn first_answering<'u>(
    places: impl Iterator<Item = (PathBuf, &'u str)>,
) -> Result<(String, PathBuf), Vec<(PathBuf, io::Error)>> {
    let mut silent = Vec::new();
    for (socket, uri) in places.filter(|(socket, _)| socket.exists()) {
        match UnixStream::connect(&socket) {
            Ok(_) => {
                let uri = uri.replacen("qemu:", "qemu+unix:", 1);
                return Ok((format!("{uri}?socket={}", socket.display()), socket));
            }
            Err(e) => silent.push((socket, e)),
        }
    }
    Err(silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_that_nobody_serves_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        drop(UnixListener::bind(place("stale")).unwrap());
        let stale = || [(place("absent"), "qemu:///system"), (place("stale"), "qemu:///system")].into_iter();
        let silent = first_answering(stale()).unwrap_err();
        assert_eq!(silent.iter().map(|(socket, _)| socket.clone()).collect::<Vec<_>>(), [place("stale")]);
        let _here = UnixListener::bind(place("here")).unwrap();
        let (uri, socket) = first_answering(stale().chain([(place("here"), "qemu:///session")])).unwrap();
        assert_eq!(socket, place("here"));
        assert_eq!(uri, format!("qemu+unix:///session?socket={}", socket.display()));
    }
}
