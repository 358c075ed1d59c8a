//! A libvirt daemon of the test's own: unprivileged, on loopback, gone with the test.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// The uid and gid that the daemon runs as where the test runs as root.
const NOBODY: u32 = 65534;

pub struct Daemon {
    child: Child,
    uri: String,
    folder: TempDir,
}

impl Daemon {
    /// Starts one and waits until it answers.
    pub fn start() -> Daemon {
        let program =
            ["/usr/sbin/libvirtd", "/usr/bin/libvirtd"].into_iter().find(|path| Path::new(path).exists());
        let program = program
            .expect("this test needs libvirtd and virsh: install libvirt-daemon-system and libvirt-clients");
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = folder.path();
        let config = format!(
            "listen_tls=0\nlisten_tcp=1\nlisten_addr=\"127.0.0.1\"\ntcp_port=\"{port}\"\nauth_tcp=\"none\"\n"
        );
        std::fs::write(path.join("libvirtd.conf"), config).unwrap();
        for inner in ["home", "run"] {
            std::fs::create_dir(path.join(inner)).unwrap();
        }
        let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap()) == 0;
        let mut command = if root {
            for place in [path.to_owned(), path.join("home"), path.join("run"), path.join("libvirtd.conf")] {
                std::os::unix::fs::chown(place, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={NOBODY}"))
                .arg(format!("--regid={NOBODY}"))
                .arg("--clear-groups")
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("--listen").arg("-f").arg(path.join("libvirtd.conf"));
        command
            .env("HOME", path.join("home"))
            .env("XDG_RUNTIME_DIR", path.join("run"))
            .env_remove("XDG_CONFIG_HOME");
        let child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("libvirtd did not start");
        let daemon = Daemon { child, uri: format!("qemu+tcp://127.0.0.1:{port}/session"), folder };
        for _ in 0..600 {
            if daemon.virsh(&["version"]).is_ok() {
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("libvirtd does not answer on {}", daemon.uri);
    }

    /// Runs virsh.
    pub fn virsh(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("virsh")
            .args(["-q", "-c", &self.uri])
            .args(arguments)
            .output()
            .expect("virsh does not run");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Defines a domain and reads it back in libvirt's words.
    pub fn define(&self, name: &str, text: &str) -> Result<String, String> {
        let file = self.folder.path().join("domain.xml");
        std::fs::write(&file, text).unwrap();
        self.virsh(&["define", "--validate", file.to_str().unwrap()])?;
        let dump = self.virsh(&["dumpxml", "--security-info", "--inactive", name])?;
        // virsh ends its output with one line break of its own.
        Ok(dump)
    }

    /// Forgets a domain.
    pub fn undefine(&self, name: &str) {
        self.virsh(&["undefine", "--keep-nvram", name]).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
