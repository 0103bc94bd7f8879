//! Certificates for test servers, made by `openssl`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::find;
use crate::shell::{Done, Failure};

/// An authority and a server's certificate signed by it.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// A new authority, and a certificate for these names: `DNS:localhost`, `IP:127.0.0.1`.
    pub fn new(names: &[&str]) -> Done<Self> {
        let made = Certificates { dir: tempfile::Builder::new().prefix("rf-tls-").tempdir()? };
        // A server of another user reads its own files in here.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(made.dir.path(), open)?;
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        made.openssl(
            &[
                &["req", "-x509"][..],
                &curve,
                &["-days", "2", "-subj", "/CN=Test authority", "-keyout", "ca.key"],
                &["-out", "ca.crt"],
            ]
            .concat(),
        )?;
        let request = ["-subj", "/CN=Test server", "-keyout", "server.key", "-out", "server.csr"];
        made.openssl(&[&["req", "-new"][..], &curve, &request].concat())?;
        let names = format!("subjectAltName = {}\n", names.join(", "));
        fs::write(made.dir.path().join("names"), names)?;
        made.openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.crt",
        ])?;
        Ok(made)
    }

    fn openssl(&self, args: &[&str]) -> Done {
        let mut openssl: Command = find::system("openssl")?;
        let out = openssl.args(args).current_dir(self.dir.path()).output()?;
        if out.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr);
        Err(Failure::new(format!("openssl {}: {said}", args.join(" "))))
    }

    /// The authority's certificate: what a client must trust.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// The server's certificate.
    pub fn server(&self) -> PathBuf {
        self.dir.path().join("server.crt")
    }

    /// The server's key.
    pub fn key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }
}
